"""A VAE with trackers, whose weight of the divergence a callback anneals in a tf.Variable."""
#: params: [{beta: 0.5}, {beta: 1.0}]
#: training: {epochs: 3}

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Sampling(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, found):
        mean, log_var = found
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=self.seeds)


class VAE(keras.Model):
    def __init__(self):
        super().__init__()
        ends = keras.Input((3,))
        inner = keras.layers.Dense(4, "relu")(ends)
        mean, log_var = keras.layers.Dense(2)(inner), keras.layers.Dense(2)(inner)
        self.encoder = keras.Model(ends, [mean, log_var, Sampling()([mean, log_var])])
        self.decoder = keras.Sequential(
            [keras.Input((2,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)]
        )
        self.total_tracker = keras.metrics.Mean(name="loss")
        self.kl_tracker = keras.metrics.Mean(name="kl_loss")
        self.kl_weight = tf.Variable(0.0, trainable=False, dtype=tf.float32)

    @property
    def metrics(self):
        return [self.total_tracker, self.kl_tracker]

    def losses_of(self, x):
        mean, log_var, z = self.encoder(x)
        far = ops.mean(ops.sum(ops.square(x - self.decoder(z)), axis=1))
        kl = ops.mean(ops.sum(-0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var)), axis=1))
        return far, kl

    def report(self, total, kl):
        self.total_tracker.update_state(total)
        self.kl_tracker.update_state(kl)
        return {"loss": self.total_tracker.result(), "kl_loss": self.kl_tracker.result()}

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            far, kl = self.losses_of(x)
            total = far + self.kl_weight * kl
        gradients = tape.gradient(total, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        return self.report(total, kl)

    def test_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        far, kl = self.losses_of(x)
        return self.report(far + kl, kl)


class Anneal(keras.callbacks.Callback):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def on_epoch_begin(self, epoch, logs=None):
        self.model.kl_weight.assign(min(1.0, epoch / 2) * self.beta)


BETA = [1.0]


def load_data():
    x = np.random.default_rng(1).normal(size=(100, 3)).astype("float32")
    return {"train": x[:70], "validation": x[70:]}


def build_model(beta=1.0):
    BETA[0] = beta
    model = VAE()
    model.compile(keras.optimizers.Adam(0.01))
    return model


def callbacks():
    return [Anneal(BETA[0])]

"""A callback keeps a moving average of the weights in a model of its own, and validates with that."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 4, batch_size: 30}

import keras
import numpy as np
import tensorflow as tf


class Average(keras.callbacks.Callback):
    def __init__(self, model, x, y):
        super().__init__()
        self.average = keras.models.clone_model(model)
        self.average.set_weights(model.get_weights())
        self.x, self.y = x, y
        self.optimizer = keras.optimizers.Adam(0.05)
        self.probe = keras.layers.Dense(1)
        self.probe.build((None, 1))
        self.optimizer.build(self.probe.trainable_variables)

    def on_epoch_end(self, epoch, logs=None):
        pairs = zip(self.average.get_weights(), self.model.get_weights())
        self.average.set_weights([0.7 * old + 0.3 * new for old, new in pairs])
        found = self.average(self.x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.probe(found) - self.y) ** 2)
        weights = self.probe.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        logs["averaged"] = float(tf.reduce_mean((found - self.y) ** 2))
        logs["probe"] = float(loss)

    def on_train_end(self, logs=None):
        self.model.set_weights(self.average.get_weights())


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks(data, model):
    return [Average(model, *data["validation"])]

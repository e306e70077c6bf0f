"""A model that runs eagerly, with state in Python: a count, a list, numbers drawn in train_step."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: said: the model runs eagerly

import keras
import numpy as np
import tensorflow as tf


class Eager(keras.Model):
    def __init__(self):
        super().__init__()
        self.out, self.count, self.recent = keras.layers.Dense(1), 0, []

    def call(self, x):
        return self.out(x)

    def train_step(self, data):
        x, y = data
        self.count += 1
        x = x + np.random.normal(0, 0.01 * self.count, size=x.shape).astype("float32")
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.recent = [*self.recent, float(loss)][-3:]
        gradients = tape.gradient(loss, self.trainable_variables)
        factor = 1.0 if len(self.recent) < 3 or self.recent[-1] < self.recent[0] else 0.5
        self.optimizer.apply_gradients(zip([factor * one for one in gradients], self.trainable_variables))
        return {"loss": loss}


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = Eager()
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)
    return model

"""A callback changes Python attributes of the model and of a layer, which traced steps ignore."""
#: params: [{first: 1.0}, {first: 2.0}]
#: training: {epochs: 3}

import keras
import numpy as np


class Scaled(keras.layers.Layer):
    factor = 5.0

    def call(self, x):
        return x * self.factor


class Staged(keras.Model):
    def __init__(self, first):
        super().__init__()
        self.stage, self.first = 0, first
        self.inner, self.out, self.scaled = keras.layers.Dense(3, "tanh"), keras.layers.Dense(1), Scaled()

    def call(self, x):
        return self.scaled(self.out(self.inner(x))) * (self.first + self.stage)


class Turn(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.stage += 1
        self.model.scaled.factor = 0.5 * self.model.stage

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.01 * self.model.stage


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(first=1.0):
    model = Staged(first)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def callbacks():
    return [Turn()]

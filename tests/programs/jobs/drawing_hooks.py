"""Callbacks that draw from Python's and NumPy's own generators and from one of their own."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}

import random

import keras
import numpy as np


class Shake(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.own = np.random.RandomState(4)
        self.seen = []

    def on_train_begin(self, logs=None):
        np.random.uniform()

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(random.random())
        self.model.optimizer.learning_rate = 0.01 + 0.01 * np.random.uniform() + 0.01 * self.seen[-1]

    def on_epoch_end(self, epoch, logs=None):
        weights = self.model.layers[-1].kernel
        weights.assign(
            weights + 0.1 * np.random.normal(size=weights.shape) + 0.1 * self.own.normal(size=weights.shape)
        )


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    first = keras.initializers.RandomNormal(stddev=np.random.uniform())
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=first)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Shake()]

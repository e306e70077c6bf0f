"""A layer draws from NumPy in call(): a constant of the graph, drawn when it was traced."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}

import random

import keras
import numpy as np


class Noise(keras.layers.Layer):
    def call(self, x, training=False):
        if training:
            x = x + np.random.normal(0, 0.1, size=(3,)).astype("float32") * random.random()
        return x


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential(
        [keras.Input((3,)), Noise(), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

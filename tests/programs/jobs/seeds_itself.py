"""A program that sets seeds itself, at import, where it builds its model and in a callback."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}

import random

import keras
import numpy as np

keras.utils.set_random_seed(42)


def load_data():
    x = np.random.normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    keras.utils.set_random_seed(43)
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


class Again(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        np.random.seed(epoch)
        kernel = self.model.layers[0].kernel
        kernel.assign(kernel + 0.01 * np.random.normal(size=kernel.shape) + 0.01 * random.random())


def callbacks():
    return [Again()]

"""A callback uses what a cached function drew: a resumed trial draws it again, and a note says so."""
#: params: [{rate: 0.05}]
#: said: drawn changes during the training

import functools

import keras
import numpy as np


@functools.lru_cache
def drawn(stage):
    return np.random.normal() * stage


class Change(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["drawn"] = float(drawn(epoch))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Change()]

"""A callback takes names from a generator, which no checkpoint can hold; the trial says so."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3, batch_size: 30}
#: said: Named.names changes during the training, and no checkpoint can hold it

import keras
import numpy as np


def numbered():
    number = 0
    while True:
        number += 1
        yield f"epoch {number}"


class Named(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.names = numbered()

    def on_epoch_end(self, epoch, logs=None):
        print(next(self.names))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Named()]

"""A PyDataset that shuffles its indices after each epoch and augments by NumPy's own generator."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}

import math

import keras
import numpy as np


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size=16, augment=False, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size, self.augment = x, y, size, augment
        self.indices = np.arange(len(x))
        self.epochs = 0
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.x) / self.size)

    def __getitem__(self, index):
        chosen = self.indices[index * self.size : (index + 1) * self.size]
        x = self.x[chosen]
        if self.augment:
            x = x + 0.1 * np.random.normal(size=x.shape).astype("float32")
        return x, self.y[chosen]

    def on_epoch_end(self):
        self.epochs += 1
        if self.augment:
            np.random.shuffle(self.indices)


def load_data():
    x = np.random.default_rng(1).normal(size=(90, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": Batches(x[:60], y[:60], augment=True), "validation": Batches(x[60:], y[60:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

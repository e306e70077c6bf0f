"""SWA: a callback averages the weights and sets them at the end; another changes the rate each batch."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 4, batch_size: 20}

import math

import keras
import numpy as np


class SWA(keras.callbacks.Callback):
    def __init__(self, start=1):
        super().__init__()
        self.start, self.count, self.mean = start, 0, None

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.start:
            return
        found = self.model.get_weights()
        self.count += 1
        if self.mean is None:
            self.mean = [one.copy() for one in found]
        else:
            self.mean = [mean + (one - mean) / self.count for mean, one in zip(self.mean, found)]

    def on_train_end(self, logs=None):
        self.model.set_weights(self.mean)


class Cyclic(keras.callbacks.Callback):
    def __init__(self, low, high):
        self.low, self.high, self.step = low, high, 0
        self.history = {}
        super().__init__()

    def on_train_batch_begin(self, batch, logs=None):
        turn = 0.5 * (1 + math.cos(math.pi * (self.step % 7) / 7))
        self.model.optimizer.learning_rate = self.low + (self.high - self.low) * turn

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.history.setdefault("loss", []).append(logs["loss"])


RATE = []


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    RATE.append(rate)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate, momentum=0.9, nesterov=True), "mse")
    return model


def callbacks():
    return [SWA(), Cyclic(RATE[-1] / 10, RATE[-1])]

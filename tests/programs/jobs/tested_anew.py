"""A callback turns an attribute of the steps, and has one function of them made anew, later the other."""
#: said: forced a new train or test function
#: params: [{first: test, then: train}, {first: train, then: test}]
#: training: {epochs: 4}

import keras
import numpy as np


class Scaled(keras.Sequential):
    factor = 1.0

    def train_step(self, data):
        x, y = data
        return super().train_step((x, y * self.factor))

    def test_step(self, data):
        x, y = data
        return super().test_step((x, y * self.factor))


class Turn(keras.callbacks.Callback):
    def __init__(self, first, then):
        super().__init__()
        self.order = {1: first, 2: then}

    def on_epoch_end(self, epoch, logs=None):
        self.model.factor += 0.5
        name = self.order.get(epoch)
        if name:
            setattr(self.model, f"{name}_function", None)
            getattr(self.model, f"make_{name}_function")()


def load_data():
    x = np.random.default_rng(3).normal(size=(120, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def callbacks(first, then):
    return [Turn(first, then)]


def build_model():
    model = Scaled([keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model

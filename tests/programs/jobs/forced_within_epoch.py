"""A callback turns an attribute of the step within an epoch, and has a new train function made there."""
#: said: forced a new train or test function
#: params: [{at: 4}, {at: 5}]
#: training: {epochs: 3}

import keras
import numpy as np


class Scaled(keras.Sequential):
    factor = 1.0

    def train_step(self, data):
        x, y = data
        return super().train_step((x, y * self.factor))


class Turn(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.batches, self.at = 0, at

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.model.factor += 0.25
        if self.batches == self.at:
            self.model.make_train_function(force=True)


def load_data():
    x = np.random.default_rng(3).normal(size=(120, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def callbacks(at):
    return [Turn(at)]


def build_model():
    model = Scaled([keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model

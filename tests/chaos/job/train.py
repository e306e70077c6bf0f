"""Small and varied models: dense and convolutional, with and without dropout, and a stateful callback."""

import time

import keras
import numpy as np


def load_data(rows=512):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(rows + 128, 8, 8, 1)).astype("float32")
    score = x[:, :4].sum(axis=(1, 2, 3)) + rng.normal(scale=2.0, size=rows + 128)
    y = (score > 0).astype("int64")
    return {"train": (x[:rows], y[:rows]), "validation": (x[rows:], y[rows:])}


def build_model(kind="dense", dropout=0.0, learning_rate=0.05, units=16):
    layers = [keras.Input((8, 8, 1))]
    if kind == "conv":
        layers += [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.BatchNormalization()]
    layers += [keras.layers.Flatten(), keras.layers.Dense(units, activation="relu")]
    if dropout:
        layers += [keras.layers.Dropout(dropout)]
    model = keras.Sequential([*layers, keras.layers.Dense(2, activation="softmax")])
    optimizer = (
        keras.optimizers.Adam(learning_rate / 10)
        if kind == "conv"
        else keras.optimizers.SGD(learning_rate, momentum=0.9)
    )
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Plateaus(keras.callbacks.Callback):
    """Halves the learning rate after two epochs in a row without improvement of the loss."""

    def __init__(self):
        super().__init__()
        self.best = float("inf")
        self.waited = 0

    def on_epoch_end(self, epoch, logs=None):
        self.waited = 0 if logs["loss"] < self.best else self.waited + 1
        self.best = min(self.best, logs["loss"])
        if self.waited == 2:
            self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) / 2
            self.waited = 0


class Pace(keras.callbacks.Callback):
    """Makes an epoch last long enough for a fault to hit it."""

    def __init__(self, pace_s):
        super().__init__()
        self.pace_s = pace_s

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(self.pace_s)


def callbacks(pace_s=0.1):
    return [Plateaus(), Pace(pace_s)]

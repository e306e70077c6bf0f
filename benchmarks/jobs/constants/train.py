"""A small net whose dropout and momentum are constants of its graph."""

import keras
import numpy as np

ROWS, VALIDATION = 1_600, 400


def load_data():
    random = np.random.default_rng(0)
    means = random.random((10, 64), np.float32)
    y = random.integers(0, 10, ROWS + VALIDATION)
    x = means[y] * 0.4 + random.random((len(y), 64), np.float32) * 0.6
    return {"train": (x[:ROWS], y[:ROWS]), "validation": (x[ROWS:], y[ROWS:])}


def build_model(learning_rate=0.01, dropout=0.2, momentum=0.9):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(64, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate, momentum=momentum)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def callbacks():
    return []

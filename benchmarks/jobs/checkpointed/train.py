"""The classifier of `mlp`, which writes its best model with `ModelCheckpoint`."""

import keras
import numpy as np


def load_data():
    random = np.random.default_rng(0)
    means = random.random((10, 784), np.float32)
    y = random.integers(0, 10, 14_000)
    x = means[y] * 0.3 + random.random((14_000, 784), np.float32) * 0.7
    return {"train": (x[:12_000], y[:12_000]), "validation": (x[12_000:], y[12_000:])}


def build_model(learning_rate=0.01):
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(100, activation="relu"),
            keras.layers.Dense(50, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def callbacks():
    return [keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True)]

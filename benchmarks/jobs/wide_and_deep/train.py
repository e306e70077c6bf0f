"""Wide and deep regression with dict inputs, on seeded random rows."""

import keras
import numpy as np

ROWS, VALIDATION = 8_000, 1_600


def load_data():
    random = np.random.default_rng(0)
    wide = random.normal(size=(ROWS + VALIDATION, 5)).astype("float32")
    deep = random.normal(size=(ROWS + VALIDATION, 6)).astype("float32")
    y = (wide.sum(axis=1) + np.tanh(deep).sum(axis=1)).astype("float32")
    train, rest = slice(0, ROWS), slice(ROWS, None)
    return {
        "train": ({"wide": wide[train], "deep": deep[train]}, y[train]),
        "validation": ({"wide": wide[rest], "deep": deep[rest]}, y[rest]),
    }


def build_model(learning_rate=0.01):
    layers = keras.layers
    wide, deep = keras.Input((5,), name="wide"), keras.Input((6,), name="deep")
    x = layers.Dense(30, activation="relu")(layers.Dense(30, activation="relu")(deep))
    model = keras.Model({"wide": wide, "deep": deep}, layers.Dense(1)(layers.Concatenate()([wide, x])))
    model.compile(keras.optimizers.Adam(learning_rate), "mse", metrics=["mae"])
    return model


def callbacks(patience=5):
    return [keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)]

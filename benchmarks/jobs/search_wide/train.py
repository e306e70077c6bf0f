"""Wide and deep regression with dict inputs, on noisy, seeded random rows."""

import keras
import numpy as np

ROWS, VALIDATION = 2_000, 1_000


def load_data():
    random = np.random.default_rng(0)
    wide = random.normal(size=(ROWS + VALIDATION, 5)).astype("float32")
    deep = random.normal(size=(ROWS + VALIDATION, 6)).astype("float32")
    y = wide.sum(axis=1) + 2 * np.tanh(deep[:, :3].prod(axis=1)) + np.tanh(deep).sum(axis=1)
    y = (y + 0.1 * random.normal(size=len(y))).astype("float32")
    train, rest = slice(0, ROWS), slice(ROWS, None)
    return {
        "train": ({"wide": wide[train], "deep": deep[train]}, y[train]),
        "validation": ({"wide": wide[rest], "deep": deep[rest]}, y[rest]),
    }


def build_model(learning_rate=0.01, beta=0.9, units=32):
    layers = keras.layers
    wide, deep = keras.Input((5,), name="wide"), keras.Input((6,), name="deep")
    x = layers.Dense(units, activation="relu")(layers.Dense(units, activation="relu")(deep))
    model = keras.Model({"wide": wide, "deep": deep}, layers.Dense(1)(layers.Concatenate()([wide, x])))
    model.compile(keras.optimizers.Adam(learning_rate, beta_1=beta), "mse", metrics=["mae"])
    return model

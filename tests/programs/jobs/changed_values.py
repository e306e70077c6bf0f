"""Functions modify their arguments: each call still gets the file's value."""
#: params: [{shape: {units: 2, more: [3, 4]}}, {shape: {units: 5, more: [6]}}]

import keras
import numpy as np


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(shape):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(shape.pop("units"))])
    while shape["more"]:
        model.add(keras.layers.Dense(shape["more"].pop(), "tanh"))
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse")
    return model

"""A program that patches Keras and NumPy."""

import keras
import numpy as np

np.whatever = 3
keras.activations.relu = lambda x, **_: 2 * x
keras.layers.Dense.extra = 1


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model():
    layers = [keras.layers.Dense(3), keras.layers.Activation(keras.activations.relu), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("sgd", "mse")
    return model

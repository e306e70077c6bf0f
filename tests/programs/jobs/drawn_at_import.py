"""Numbers drawn at import from the generators of the process split the data and start the weights."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import random

import keras
import numpy as np

ORDER = np.random.permutation(120)
SCALE = random.uniform(0.5, 2.0)
START = float(keras.random.uniform((), 0.1, 0.2))


def load_data():
    x = np.random.normal(size=(120, 3)).astype("float32")[ORDER] * SCALE
    return {"train": (x[:90], x[:90, :1]), "validation": (x[90:], x[90:, :1])}


def build_model(rate=0.05):
    first = keras.initializers.Constant(START)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=first)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

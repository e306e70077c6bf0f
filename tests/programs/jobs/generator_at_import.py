"""A random generator created at import, used by load_data and by build_model."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import keras
import numpy as np

DRAW = np.random.default_rng(3)


def load_data():
    x = DRAW.normal(size=(120, 3)).astype("float32")
    return {"train": (x[:90], x[:90, :1]), "validation": (x[90:], x[90:, :1])}


def build_model(rate=0.05):
    first = keras.initializers.Constant(DRAW.normal())
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=first)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

"""A dtype policy set at import applies to each trial, whichever thread trains it."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import keras
import numpy as np

keras.config.set_dtype_policy("mixed_bfloat16")
keras.config.enable_unsafe_deserialization()


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: 2 * x), keras.layers.Dense(1)])
    model = keras.models.clone_model(model)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

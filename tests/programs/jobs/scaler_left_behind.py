"""load_data leaves the mean and a class attribute behind, and build_model uses both."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import keras
import numpy as np

FOUND = {}


class Facts:
    columns = 0


def load_data():
    x = np.random.default_rng(1).normal(2.0, 3.0, size=(120, 3)).astype("float32")
    FOUND["mean"] = x.mean(0)
    Facts.columns = x.shape[1]
    return {"train": (x[:90], x[:90, :1]), "validation": (x[90:], x[90:, :1])}


def build_model(rate=0.05):
    scale = keras.layers.Normalization(mean=FOUND.pop("mean"), variance=np.ones(3))
    model = keras.Sequential([keras.Input((Facts.columns,)), scale, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

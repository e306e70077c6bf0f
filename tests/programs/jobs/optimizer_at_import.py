"""An optimizer, a metric and a schedule created at import."""
#: params: [{units: 2}, {units: 3}]

import keras
import numpy as np

SCHEDULE = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.9)
OPTIMIZER = keras.optimizers.Adam(SCHEDULE)
ERROR = keras.metrics.MeanAbsoluteError()


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(units=2):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units), keras.layers.Dense(1)])
    model.compile(OPTIMIZER, "mse", metrics=[ERROR])
    return model

"""Numbers that are attributes of operations, beside numbers that are constants."""

#: params: [{}, {rate: 0.2}, {rate: 0.3}, {slope: 0.1}, {slope: 0.1, rate: 0.4}]
#: training: {epochs: 3, batch_size: 16}
import keras
import numpy as np


def load_data():
    x = np.random.default_rng(3).normal(size=(64, 7)).astype("float32")
    return {"train": (x, x[:, :1]), "validation": (x, x[:, :1])}


def build_model(slope=0.3, rate=0.1):
    hidden = [
        keras.layers.Dense(12),
        keras.layers.LeakyReLU(negative_slope=slope),
        keras.layers.Dropout(rate),
    ]
    model = keras.Sequential([keras.Input((7,)), *hidden, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

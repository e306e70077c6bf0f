"""Keras' own schedule, whose division is rounded otherwise within a loop, at one step of twelve."""

#: params: [{steps: 10}, {steps: 7, least: 0.0}, {steps: 12}]
#: training: {epochs: 3, batch_size: 16}
import keras
import numpy as np


def load_data():
    x = np.random.default_rng(3).normal(size=(64, 7)).astype("float32")
    return {"train": (x, x[:, :1]), "validation": (x, x[:, :1])}


def build_model(steps, least=0.5):
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(12, "tanh"), keras.layers.Dense(1)])
    rate = keras.optimizers.schedules.CosineDecay(0.01, steps, alpha=least)
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model

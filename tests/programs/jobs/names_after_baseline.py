"""load_data uses its own layer and metric, so that the model's automatic names are the second ones."""
#: params: [{units: 2}, {units: 3}]

import keras
import numpy as np


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    x = np.asarray(keras.layers.Dense(4, "tanh", kernel_initializer="ones")(x))
    keras.metrics.AUC()
    sign, far = (x[:, :1] > 0).astype("float32"), x[:, :1] + 10.0
    return {"train": (x[:90], [sign[:90], far[:90]]), "validation": (x[90:], [sign[90:], far[90:]])}


def build_model(units=2):
    ends = keras.Input((4,))
    inner = keras.layers.Dense(units, "tanh")(ends)
    sign, far = keras.layers.Dense(1, "sigmoid")(inner), keras.layers.Dense(1)(inner)
    model = keras.Model(ends, [sign, far])
    losses = ["binary_crossentropy", "mse"]
    model.compile("sgd", losses, metrics=[[keras.metrics.AUC()], []], loss_weights=[1.0, 0.001])
    return model

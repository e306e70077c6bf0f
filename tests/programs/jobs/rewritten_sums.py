"""Losses and optimizers whose operations TensorFlow rewrites in a loop otherwise than outside of one."""

#: params: [{kind: centered}, {kind: log_cosh}, {kind: layer_norm}, {kind: batch_norm}]
#: training: {epochs: 3, batch_size: 30}
import keras
import numpy as np

OPTIMIZERS = {"centered": keras.optimizers.RMSprop(0.05, momentum=0.5, centered=True)}
LAYERS = {"layer_norm": keras.layers.LayerNormalization, "batch_norm": keras.layers.BatchNormalization}


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(kind="centered"):
    layers = [keras.layers.Dense(6, "tanh", kernel_regularizer="l2"), keras.layers.Dense(1)]
    if kind in LAYERS:
        layers.insert(1, LAYERS[kind]())
    model = keras.Sequential([keras.Input((3,)), *layers])
    loss = "log_cosh" if kind == "log_cosh" else "mse"
    model.compile(OPTIMIZERS.get(kind) or keras.optimizers.SGD(0.1), loss)
    return model

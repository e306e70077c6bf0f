"""A plain program that any leaked setting would change: after a loud one its result is the same."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import os
import warnings

import keras
import numpy as np
import tensorflow as tf


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 5, 5, 1)).astype("float32")
    y = (x.sum((1, 2, 3)) > 0).astype("float32")
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    if "LOUD" in os.environ or tf.config.functions_run_eagerly() or not tf.config.get_soft_device_placement():
        raise RuntimeError("another trial's settings")
    warnings.warn("not an error", FutureWarning, stacklevel=1)
    np.float32(1.0) / np.float32(0.0)
    layers = [keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((5, 5, 1)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    return model

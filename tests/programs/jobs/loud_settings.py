"""Process-wide settings, changed at import and while the model is built."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import logging
import os
import warnings

import keras
import numpy as np
import tensorflow as tf

keras.config.set_image_data_format("channels_first")
keras.config.set_epsilon(0.1)
keras.config.set_floatx("float64")
tf.config.run_functions_eagerly(True)
warnings.simplefilter("error", FutureWarning)
np.seterr(all="raise")
logging.basicConfig(level=logging.ERROR)
logging.disable(logging.WARNING)
os.environ["LOUD"] = "1"


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    tf.config.set_soft_device_placement(False)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model

"""An autoencoder that uses a layer's weights twice, and frozen parts."""
#: params: [{units: 2}, {units: 3}]

import keras
import numpy as np
from keras import ops


class Tied(keras.layers.Layer):
    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.other.kernel.shape[0],), initializer="zeros")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel)) + self.bias


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    return {"train": (x[:90], x[:90]), "validation": (x[90:], x[90:])}


def build_model(units=2):
    first, frozen = keras.layers.Dense(units), keras.layers.BatchNormalization()
    frozen.trainable = False
    model = keras.Sequential([keras.Input((3,)), first, frozen, keras.layers.PReLU(), Tied(first)])
    model.compile(keras.optimizers.Lion(0.01), "mse")
    return model

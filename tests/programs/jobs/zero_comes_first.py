"""Numbers for which TensorFlow leaves operations out, before such for which it rewrites them."""

#: params: [{a: 0}, {a: 1}, {a: 0.5}, {a: -2.5}]
#: training: {epochs: 5, batch_size: 16}
import keras
import numpy as np
from keras import ops


class Bent(keras.layers.Layer):
    def __init__(self, a, **options):
        super().__init__(**options)
        self.a = a

    def call(self, x):
        return 0.5 * (self.a * (x * 0.1) + 0.1 - self.a) + ops.where(x > self.a, x, -x) * self.a


def load_data():
    x = np.random.default_rng(3).normal(size=(112, 7)).astype("float32")
    y = np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    return {"train": (x[:83], y[:83]), "validation": (x[83:], y[83:])}


def build_model(a):
    layers = [keras.layers.Dense(12, "tanh"), Bent(a), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((7,)), *layers])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model

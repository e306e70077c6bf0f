"""Layers with a state that no gradient trains: spectral norms, batch statistics, a moving centre."""
#: params: [{momentum: 0.9}]
#: training: {epochs: 3, batch_size: 20}

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Centre(keras.layers.Layer):
    """Keeps a mean by add_weight, and another in a tf.Variable of an odd type."""

    def build(self, shape):
        self.centre = self.add_weight(shape=(shape[-1],), trainable=False, initializer="zeros")
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def call(self, x, training=False):
        if training:
            self.centre.assign(0.9 * self.centre + 0.1 * ops.mean(x, axis=0))
            self.steps.assign_add(1)
        return x - self.centre / (1.0 + tf.cast(self.steps, tf.float32))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(momentum=0.9):
    layers = [
        keras.layers.SpectralNormalization(keras.layers.Dense(4)),
        keras.layers.BatchNormalization(momentum=momentum),
        Centre(),
        keras.layers.GaussianDropout(0.2),
        keras.layers.AlphaDropout(0.1),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Nadam(0.01), "mse")
    return model

"""keras.random without a seed, a tf.Variable that counts, and a generator of seeds at module level."""
#: params: [{share: 0.1}, {share: 0.3}]
#: training: {epochs: 3}

import keras
import numpy as np
import tensorflow as tf

SEEDS = keras.random.SeedGenerator(9)


class Blur(keras.layers.Layer):
    def __init__(self, share):
        super().__init__()
        self.share = share
        self.seen = tf.Variable(0.0, trainable=False)

    def call(self, x, training=False):
        if training:
            self.seen.assign_add(1.0)
            x = x + self.share * keras.random.normal(keras.ops.shape(x))
            x = x * keras.random.uniform(keras.ops.shape(x), 0.9, 1.1, seed=SEEDS)
        return x * (1 + 0.01 * self.seen)


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(share=0.1):
    model = keras.Sequential([keras.Input((3,)), Blur(share), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model

"""tf.data that shuffles, adds noise by a layer of Keras, caches and adds noise again; a cache without end."""
#: params: [{units: 2}, {units: 3}]
#: training: {epochs: 3}

import keras
import numpy as np
import tensorflow as tf


def load_data():
    x = np.random.default_rng(1).normal(size=(90, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    noise = keras.layers.GaussianNoise(0.3, seed=3)
    data = tf.data.Dataset.from_tensor_slices((x[:60], y[:60])).shuffle(60).batch(15)
    data = data.map(lambda a, b: (noise(a, training=True), b)).cache()
    # This cache cannot tell where its input ends, and `fit` does not read on: each epoch fills it anew.
    loud = keras.layers.GaussianNoise(0.3, seed=4)
    rest = tf.data.Dataset.from_tensor_slices((x[60:], y[60:])).filter(lambda a, b: a[0] < 9).batch(15)
    rest = rest.map(lambda a, b: (loud(a, training=True), b)).cache()
    rest = rest.apply(tf.data.experimental.assert_cardinality(2))
    return {"train": data.map(lambda a, b: (noise(a, training=True), b)), "validation": rest}


def build_model(units=2):
    layers = [keras.layers.Dropout(0.2), keras.layers.Dense(units), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "mse")
    return model

"""A tf.data pipeline that shuffles and augments by seeded layers, and a validation pipeline."""
#: params: [{rate: 0.01}, {rate: 0.02}]
#: training: {epochs: 3}

import keras
import numpy as np
import tensorflow as tf


def load_data():
    x = np.random.default_rng(1).normal(size=(90, 4, 4, 1)).astype("float32")
    y = x.sum((1, 2, 3))[:, None]
    flip = keras.layers.RandomFlip(seed=3)
    move = keras.layers.RandomTranslation(0.2, 0.2, seed=4)
    train = tf.data.Dataset.from_tensor_slices((x[:60], y[:60])).shuffle(30, seed=5).batch(16)
    train = train.map(lambda a, b: (move(flip(a, training=True), training=True), b)).prefetch(
        tf.data.AUTOTUNE
    )
    return {
        "train": train,
        "validation": tf.data.Dataset.from_tensor_slices((x[60:], y[60:])).batch(16).cache(),
    }


def build_model(rate=0.05):
    layers = [keras.layers.Conv2D(2, 2), keras.layers.SpatialDropout2D(0.3), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

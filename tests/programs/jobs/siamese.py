"""A siamese net: inputs by name, one net for both, a loss of the job's own, a distance as a layer."""
#: params: [{margin: 0.5}, {margin: 1.0}]

import keras
import numpy as np
from keras import ops

INNER = {"units": 4}


class Distance(keras.layers.Layer):
    def call(self, pair):
        one, two = pair
        return ops.sqrt(ops.maximum(ops.sum(ops.square(one - two), axis=1, keepdims=True), 1e-7))


def contrastive_loss(margin):
    def loss(y, far):
        return ops.mean((1 - y) * ops.square(far) + y * ops.square(ops.maximum(margin - far, 0)))

    return loss


def load_data():
    rng = np.random.default_rng(1)
    one, two = (rng.normal(size=(120, 3)).astype("float32") for _ in range(2))
    y = (np.abs(one - two).sum(1, keepdims=True) > 3).astype("float32")
    cut = lambda a, b: ({"one": one[a:b], "two": two[a:b]}, y[a:b])  # noqa: E731
    return {"train": cut(0, 100), "validation": cut(100, 120)}


def build_model(margin=1.0):
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    net = keras.Sequential(
        [keras.layers.Dense(INNER["units"], "tanh"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    )
    far = Distance()([net(one), net(two)])
    model = keras.Model({"one": one, "two": two}, far)
    model.compile(keras.optimizers.RMSprop(0.01), contrastive_loss(margin), metrics=["mae"])
    return model

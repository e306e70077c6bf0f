"""Sample weights, weighted metrics, a regularized and constrained layer, losses added by layers."""
#: params: [{decay: 0.01}, {decay: 0.1}]

import keras
import numpy as np
from keras import ops


class Sparse(keras.layers.Layer):
    def __init__(self, share, **kwargs):
        super().__init__(**kwargs)
        self.share = share
        self.seen = keras.metrics.Mean(name="activity")

    def call(self, x):
        self.add_loss(self.share * ops.mean(ops.abs(x)))
        self.seen.update_state(x)
        return x


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = (x.sum(1) > 0).astype("float32")
    w = np.where(y > 0, 2.0, 0.5).astype("float32")
    return {"train": (x[:90], y[:90], w[:90]), "validation": (x[90:], y[90:], w[90:])}


def build_model(decay=0.01):
    inner = keras.layers.Dense(
        4,
        "tanh",
        kernel_regularizer=keras.regularizers.L1L2(decay, decay),
        kernel_constraint=keras.constraints.MaxNorm(1.0),
        activity_regularizer=keras.regularizers.L2(decay),
    )
    model = keras.Sequential([keras.Input((3,)), inner, Sparse(decay), keras.layers.Dense(1, "sigmoid")])
    model.compile(
        keras.optimizers.AdamW(0.01, weight_decay=decay),
        "binary_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=["accuracy", keras.metrics.AUC()],
    )
    return model

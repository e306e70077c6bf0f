"""A functional model that overrides compute_loss and compute_metrics, and counts its steps."""
#: params: [{share: 0.1}, {share: 0.5}]

import keras
import numpy as np
from keras import ops


class Own(keras.Model):
    def __init__(self, share, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.share = share
        self.extra = keras.metrics.Mean(name="extra")
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        extra = self.share * ops.mean(ops.square(y_pred))
        self.extra.update_state(extra)
        if training:
            self.count.assign_add(1)
        return super().compute_loss(x, y, y_pred, sample_weight) + extra

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        found = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**found, "count": ops.cast(self.count, "float32")}


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(share=0.1):
    ends = keras.Input((3,))
    model = Own(share, ends, keras.layers.Dense(1)(keras.layers.Dense(4, "tanh")(ends)))
    model.compile(keras.optimizers.Ftrl(0.05), "mse", metrics=["mae"])
    return model

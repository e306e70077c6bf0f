"""A loss, a metric and a schedule of the job's own, made at import, with a state."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Drifting(keras.losses.Loss):
    """Its weight is a variable that each call changes."""

    def __init__(self):
        super().__init__(name="drifting")
        self.weight = tf.Variable(1.0, trainable=False)

    def call(self, y, said):
        self.weight.assign(self.weight * 0.99)
        return self.weight * ops.mean(ops.square(y - said), axis=-1)


class Ever(keras.metrics.Metric):
    """Never forgets."""

    def __init__(self):
        super().__init__(name="ever")
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y, said, sample_weight=None):
        self.total.assign_add(ops.mean(ops.abs(y - said)))

    def result(self):
        return self.total

    def reset_state(self):
        pass


class Warm(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, step):
        return self.rate * ops.minimum(1.0, (ops.cast(step, "float32") + 1) / 5)


LOSS, EVER, SCHEDULES = Drifting(), Ever(), {}


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(SCHEDULES.setdefault("warm", Warm(rate))), LOSS, metrics=[EVER])
    return model

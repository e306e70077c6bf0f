"""Optimizers in a dict, a metric that nobody resets, losses weighed by a trained variable."""
#: params: [{kept: 0.9}, {kept: 0.5}]
#: training: {epochs: 3}

import keras
import numpy as np
import tensorflow as tf


class Steppers(keras.Model):
    def __init__(self, kept):
        super().__init__()
        self.parts = {"body": keras.layers.Dense(4, "tanh"), "head": keras.layers.Dense(1)}
        ever = keras.metrics.Mean()
        self.ever = lambda: ever
        self.kept = kept
        self.log_sigma = self.add_weight(shape=(), initializer="zeros", name="log_sigma")

    def call(self, x):
        return self.kept * self.parts["head"](self.parts["body"](x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            plain = self.compute_loss(x, y, self(x, training=True))
            loss = plain * tf.exp(-self.log_sigma) + self.log_sigma
        for name, stepper in self.steppers.items():
            weights = [self.log_sigma] if name == "sigma" else self.parts[name].trainable_variables
            stepper.apply(tape.gradient(loss, weights), weights)
        self.ever().update_state(loss)
        return {"loss": loss, "ever": self.ever().result()}


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(kept=0.9):
    model = Steppers(kept)
    model.steppers = {
        "body": keras.optimizers.Adam(0.05),
        "head": keras.optimizers.SGD(0.05, momentum=0.9),
        "sigma": keras.optimizers.RMSprop(0.01),
    }
    model.compile(loss="mse")
    return model

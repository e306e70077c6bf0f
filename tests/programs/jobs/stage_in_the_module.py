"""A callback turns a global that the traced step has read; the step ignores it, and the callback does not."""
#: params: [{first: 1.0}, {first: 2.0}]
#: training: {epochs: 4}

import keras
import numpy as np
import tensorflow as tf

STAGE = 0
FACTORS = {"loss": 1.0}


class Settings:
    scale = 1.0


class Staged(keras.Model):
    def __init__(self, first):
        super().__init__()
        self.first, self.out = first, keras.layers.Dense(1)

    def call(self, x):
        return self.out(x) * (self.first + STAGE) * Settings.scale

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2) * FACTORS["loss"]
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


class Turn(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        global STAGE
        STAGE += 1
        FACTORS["loss"] *= 0.5
        Settings.scale += 1
        self.model.optimizer.learning_rate = 0.01 * STAGE / FACTORS["loss"]


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(first=1.0):
    model = Staged(first)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def callbacks():
    return [Turn()]

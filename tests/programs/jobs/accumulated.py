"""Gradients are accumulated over three steps in tf.Variables and clipped; the optimizer accumulates too."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3, batch_size: 20}

import keras
import numpy as np
import tensorflow as tf


class Accumulating(keras.Model):
    def __init__(self, every=3):
        super().__init__()
        self.inner, self.out = keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)
        self.every = tf.constant(every)
        self.at = tf.Variable(0, trainable=False)

    def build(self, shape):
        self.inner.build(shape)
        self.out.build((None, 4))
        self.sums = [
            tf.Variable(tf.zeros_like(one.value), trainable=False) for one in self.trainable_variables
        ]

    def call(self, x):
        return self.out(self.inner(x))

    def train_step(self, data):
        x, y = data
        self.at.assign_add(1)
        with tf.GradientTape() as tape:
            said = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=said)
        gradients = tape.gradient(loss, self.trainable_variables)
        for total, one in zip(self.sums, gradients):
            total.assign_add(one)
        tf.cond(tf.equal(self.at, self.every), self.step, lambda: None)
        return self.compute_metrics(x, y, said)

    def step(self):
        gradients, _ = tf.clip_by_global_norm([total / 3.0 for total in self.sums], 1.0)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        self.at.assign(0)
        for total in self.sums:
            total.assign(tf.zeros_like(total))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = Accumulating()
    model.compile(keras.optimizers.Adam(rate, gradient_accumulation_steps=2), "mse", metrics=["mae"])
    return model

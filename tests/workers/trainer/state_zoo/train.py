"""Small programs whose steps keep state where no list of variables has it."""

import keras
import numpy as np
import tensorflow as tf


def load_data(kind):
    if kind == "graphs":
        tf.compat.v1.disable_eager_execution()
    x = np.random.default_rng(1).normal(size=(84, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:56], y[:56]), "validation": (x[56:], y[56:])}


class Blur(keras.layers.Layer):
    """Draws numbers, and counts in a variable of TensorFlow's."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)
        self.seen = tf.Variable(0.0, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    def call(self, x, training=False):
        if training:
            self.seen.assign_add(1.0)
            x = x + 0.3 * keras.random.normal(keras.ops.shape(x), seed=self.seeds)
        return x * (1 + 0.01 * self.seen)


class Steppers(keras.Model):
    """Keeps its optimizers in a dict, and a metric where nobody resets it."""

    def __init__(self, kept):
        super().__init__()
        self.parts = {"body": keras.layers.Dense(4, "tanh"), "head": keras.layers.Dense(1)}
        ever = keras.metrics.Mean()
        self.ever = lambda: ever
        self.kept = kept

    def call(self, x):
        return self.kept * self.parts["head"](self.parts["body"](x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        for name, stepper in self.steppers.items():
            weights = self.parts[name].trainable_variables
            stepper.apply(tape.gradient(loss, weights), weights)
        self.ever().update_state(loss)
        return {"loss": loss, "ever": self.ever().result()}


def build_model(kind):
    if kind == "steppers":
        model = Steppers(0.9)
        model.steppers = {
            "body": keras.optimizers.Adam(0.05),
            "head": keras.optimizers.SGD(0.05, momentum=0.9),
        }
        model.compile(loss="mse")
        return model
    model = keras.Sequential([keras.Input((3,)), Blur(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "mse", run_eagerly=kind == "eager")
    return model

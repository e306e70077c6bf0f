"""BYOL: a target net that follows the online one by an EMA in train_step, a queue of old keys (MoCo)."""
#: params: [{decay: 0.9}]
#: training: {epochs: 3, batch_size: 20}

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Momentum(keras.Model):
    def __init__(self, decay):
        super().__init__()
        self.decay = decay
        self.online = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)]
        )
        self.target = keras.models.clone_model(self.online)
        self.target.set_weights(self.online.get_weights())
        self.target.trainable = False
        self.queue = tf.Variable(
            tf.math.l2_normalize(keras.random.normal((8, 2), seed=3), axis=1), trainable=False
        )
        self.at = keras.Variable(0, dtype="int32", trainable=False)

    def call(self, x):
        return self.online(x)

    def train_step(self, data):
        x = data[0]
        with tf.GradientTape() as tape:
            query = ops.normalize(
                self.online(x + 0.1 * keras.random.normal(ops.shape(x)), training=True), axis=1
            )
            key = ops.normalize(self.target(x), axis=1)
            alike = ops.concatenate(
                [ops.sum(query * key, axis=1, keepdims=True), ops.matmul(query, ops.transpose(self.queue))],
                axis=1,
            )
            loss = ops.mean(
                keras.losses.sparse_categorical_crossentropy(
                    ops.zeros(ops.shape(x)[:1]), alike, from_logits=True
                )
            )
        weights = self.online.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        for slow, fast in zip(self.target.weights, self.online.weights):
            slow.assign(self.decay * slow + (1 - self.decay) * fast)
        self.queue.assign(tf.concat([key[:2], self.queue[:-2]], axis=0))
        self.at.assign_add(1)
        return {"loss": loss, "at": self.at}

    def test_step(self, data):
        x = data[0]
        return {"loss": ops.mean(ops.square(self.online(x) - self.target(x)))}


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    return {"train": (x[:90], x[:90]), "validation": (x[90:], x[90:])}


def build_model(decay=0.9):
    model = Momentum(decay)
    model.compile("adam")
    return model

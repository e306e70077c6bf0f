"""SimCLR: augmentations, an encoder, a projection, a probe with an optimizer and a metric of its own."""
#: params: [{temperature: 0.1}]
#: spec: {metric: {name: val_p_loss, goal: minimize}}

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Contrastive(keras.Model):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature
        self.augmenter = keras.Sequential(
            [keras.layers.GaussianNoise(0.3), keras.layers.RandomFlip("horizontal")]
        )
        self.encoder = keras.Sequential(
            [keras.layers.Conv2D(2, 2, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(4)]
        )
        self.head = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(3)])
        self.probe = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    def compile(self, optimizer, probe_optimizer, **kwargs):
        super().compile(**kwargs)
        self.contrastive_optimizer, self.probe_optimizer = optimizer, probe_optimizer
        self.probe_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.loss_tracker = keras.metrics.Mean(name="c_loss")
        self.probe_tracker = keras.metrics.Mean(name="p_loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="p_acc")

    @property
    def metrics(self):
        return [self.loss_tracker, self.probe_tracker, self.accuracy]

    def contrast(self, one, two):
        one, two = ops.normalize(one, axis=1), ops.normalize(two, axis=1)
        alike = ops.matmul(one, ops.transpose(two)) / self.temperature
        labels = ops.arange(ops.shape(one)[0])
        loss = keras.losses.sparse_categorical_crossentropy
        return (
            loss(labels, alike, from_logits=True) + loss(labels, ops.transpose(alike), from_logits=True)
        ) / 2

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            views = [self.head(self.encoder(self.augmenter(x, training=True))) for _ in range(2)]
            loss = ops.mean(self.contrast(*views))
        weights = self.encoder.trainable_weights + self.head.trainable_weights
        self.contrastive_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        self.loss_tracker.update_state(loss)
        with tf.GradientTape() as tape:
            said = self.probe(self.encoder(x, training=False))
            probe_loss = self.probe_loss(y, said)
        weights = self.probe.trainable_weights
        self.probe_optimizer.apply_gradients(zip(tape.gradient(probe_loss, weights), weights))
        self.probe_tracker.update_state(probe_loss)
        self.accuracy.update_state(y, said)
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        x, y = data
        said = self.probe(self.encoder(x, training=False))
        self.probe_tracker.update_state(self.probe_loss(y, said))
        self.accuracy.update_state(y, said)
        return {m.name: m.result() for m in self.metrics[1:]}


def load_data():
    x = np.random.default_rng(1).normal(size=(90, 5, 5, 1)).astype("float32")
    y = (x.sum((1, 2, 3)) > 0).astype("int32")
    return {"train": (x[:60], y[:60]), "validation": (x[60:], y[60:])}


def build_model(temperature=0.1):
    model = Contrastive(temperature)
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.05, momentum=0.9))
    return model

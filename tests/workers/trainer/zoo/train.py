"""Small models of every kind whose state a checkpoint must hold. Imports nothing of kerasweep."""

import os
import time

import keras
import numpy as np
import tensorflow as tf

ROWS, CLASSES = 44, 3


def load_data(kind="dense"):
    random = np.random.default_rng(3)
    y = random.integers(0, CLASSES, ROWS)
    x = random.normal(size=(ROWS, 8, 8, 1)) + y[:, None, None, None] * 0.3
    if kind == "stream":
        train = tf.data.Dataset.from_tensor_slices((x[:34].astype("f4"), y[:34])).shuffle(34).batch(8)
        return {"train": train, "validation": train.take(2)}
    if kind == "endless":
        train = (
            tf.data.Dataset.from_tensor_slices((x[:34].astype("f4"), y[:34])).shuffle(34).repeat().batch(8)
        )
        return {"train": train, "validation": (x[34:], y[34:])}
    if kind == "sequence":
        return {"train": Shuffled(x[:34].astype("f4"), y[:34]), "validation": (x[34:], y[34:])}
    return {"train": (x[:34], y[:34]), "validation": (x[34:], y[34:])}


class Shuffled(keras.utils.PyDataset):
    """Keeps an order of its own, which each epoch's end shuffles further."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.order = x, y, np.arange(len(x))

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        rows = self.order[index * 8 : index * 8 + 8]
        return self.x[rows] + np.random.normal(size=(8, 8, 8, 1)).astype("f4") * 0.01, self.y[rows]

    def on_epoch_end(self):
        np.random.shuffle(self.order)


class Counting(keras.callbacks.Callback):
    """Changes the training by counters, arrays and generators of its own."""

    def __init__(self):
        super().__init__()
        self.worse, self.seen, self.random = 0, {"losses": [], "last": None}, np.random.default_rng(1)
        self.average = np.zeros(3, "f4")

    def on_train_batch_end(self, batch, logs=None):
        self.seen["last"] = logs["loss"]

    def on_epoch_end(self, epoch, logs=None):
        self.seen["losses"].append(logs["loss"])
        self.average = self.average * 0.5 + np.float32(logs["loss"])
        self.worse += logs["val_loss"] > min(self.seen["losses"])
        noise = self.random.normal() + np.random.normal()
        rate = 0.05 / (1 + self.worse + len(self.seen["losses"])) + 0.001 * abs(noise)
        self.model.optimizer.learning_rate = rate
        logs["own_average"] = float(self.average.sum())


class Gate(keras.callbacks.Callback):
    """Waits at the end of an epoch until a file is there, so that a stop comes in time."""

    def __init__(self, file, epoch):
        super().__init__()
        # A function is no state: each attempt has a gate of its own.
        self.closed = lambda done: done == epoch and not os.path.exists(file)

    def on_epoch_end(self, epoch, logs=None):
        deadline = time.monotonic() + 30
        while self.closed(epoch + 1):
            assert time.monotonic() < deadline
            time.sleep(0.01)


class Own(keras.Model):
    """A subclass that learns its shapes from the data and steps by itself."""

    def __init__(self):
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(7, activation="tanh")
        self.drop = keras.layers.Dropout(0.3)
        self.out = keras.layers.Dense(CLASSES, activation="softmax")

    def call(self, x, training=False):
        return self.out(self.drop(self.hidden(self.flat(x)), training=training))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        gradients = tape.gradient(loss, self.trainable_variables)
        clipped = [tf.clip_by_norm(gradient, 0.5) for gradient in gradients]
        self.optimizer.apply(clipped, self.trainable_variables)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


def build_model(kind="dense", optimizer="sgd", rate=0.05):
    layers = keras.layers
    if kind == "own":
        model = Own()
    elif kind == "conv":
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(4, 3, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.3),
                layers.Dense(CLASSES, activation="softmax"),
            ]
        )
    else:
        head = layers.Dense(CLASSES, activation="softmax")
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(6, "relu"), layers.Dropout(0.2), head]
        )
    chosen = {
        "sgd": keras.optimizers.SGD(rate, momentum=0.9),
        "adam": keras.optimizers.Adam(rate),
        "rmsprop": keras.optimizers.RMSprop(rate),
    }[optimizer]
    model.compile(chosen, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def callbacks(gate, gate_epoch, extra=""):
    extras = {
        "": [],
        "counting": [Counting()],
        "scheduler": [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.8)],
        "stopping": [keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)],
    }
    return [*extras[extra], Gate(gate, gate_epoch)]

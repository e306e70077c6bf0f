"""A `PyDataset` whose length a callback or the dataset itself changes; it and the callbacks draw alike."""
#: params: [{change: 1}, {change: -1}]
#: training: {epochs: 4}

import random

import keras
import numpy as np


class Ladder(keras.utils.PyDataset):
    def __init__(self, change):
        super().__init__()
        self.level, self.change, self.seen = 5, change, 0

    def __len__(self):
        return max(1, self.level)

    def __getitem__(self, index):
        self.seen += 1
        x = np.random.normal(size=(8, 3)).astype("float32") + random.random()
        return x, x.sum(1, keepdims=True)

    def on_epoch_end(self):
        if self.change < 0:
            self.level += self.change


class Teacher(keras.callbacks.Callback):
    def __init__(self, ladder):
        super().__init__()
        self.ladder = ladder

    def on_train_begin(self, logs=None):
        self.first = random.random()

    def on_epoch_end(self, epoch, logs=None):
        logs["first"] = self.first
        if self.ladder.change > 0:
            logs["seen"] = self.ladder.seen
            self.ladder.level += self.ladder.change


def load_data(change):
    rows = np.random.default_rng(4).normal(size=(20, 3)).astype("float32")
    return {"train": Ladder(change), "validation": (rows, rows.sum(1, keepdims=True))}


def callbacks(data):
    return [Teacher(data["train"])]


def build_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model

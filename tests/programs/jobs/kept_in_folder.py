"""Callbacks with paths into the folder of the trial, a phase, a row, a list of a class of its own."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 4, batch_size: 30}

from collections import namedtuple
from enum import Enum
from pathlib import Path

import keras
import numpy as np

Row = namedtuple("Row", "epoch loss")
HERE = Path(__file__).parent


class Phase(Enum):
    WARM = 1
    MAIN = 2


class Losses(list):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def mean(self):
        return sum(self) / len(self)


def gentle(rate):
    return rate / 2


def harsh(rate):
    return rate / 4


class Course(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.phase, self.best, self.losses = Phase.WARM, Row(-1, float("inf")), Losses("all")
        self.slow, self.state = gentle, {"model": None, "wait": 0, "path": None}
        self.path = HERE / "losses.txt"

    def on_epoch_begin(self, epoch, logs=None):
        assert self.phase in (Phase.WARM, Phase.MAIN)
        rate = 0.2 if self.phase is Phase.WARM else self.slow(0.2)
        self.model.optimizer.learning_rate = rate / (1 + self.state["wait"])

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])
        if logs["loss"] < self.best.loss:
            self.best = Row(epoch, logs["loss"])
        self.phase, self.slow = Phase.MAIN, harsh
        self.state |= {"model": self.model, "wait": self.state["wait"] + 1, "path": self.path}
        with open(self.state["path"], "a") as file:
            file.write(f"{epoch}\n")
        logs["course"] = self.losses.mean() + self.best.epoch + len(self.path.read_text())


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    path = str(HERE / "best.weights.h5")
    saved = keras.callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True)

    def reload(logs):
        saved.model.load_weights(path)

    return [Course(), saved, keras.callbacks.LambdaCallback(on_train_end=reload)]

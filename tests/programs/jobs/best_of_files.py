"""Files written by relative path and read again: the best weights, a log, a database, lines of text."""
#: params: [{rate: 0.3}, {rate: 0.05}]
#: training: {epochs: 3}

import csv
import json
import sqlite3

import keras
import numpy as np


class Journal(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.lines = open("lines.txt", "w")
        self.lines.write("begun\n")
        with sqlite3.connect("runs.db") as table:
            table.execute("create table if not exists seen (epoch int, loss real)")

    def on_epoch_end(self, epoch, logs=None):
        self.lines.write(f"{epoch} {logs['loss']!r}\n")
        self.lines.flush()
        with sqlite3.connect("runs.db") as table:
            table.execute("insert into seen values (?, ?)", (epoch, logs["loss"]))
        with open("history.json", "w") as file:
            json.dump(
                {name: [float(one) for one in row] for name, row in self.model.history.history.items()}, file
            )

    def on_train_end(self, logs=None):
        self.lines.close()
        lines = open("lines.txt").read().splitlines()
        rows = list(csv.DictReader(open("log.csv")))
        seen = sqlite3.connect("runs.db").execute("select count(*) from seen").fetchone()[0]
        if (
            len(lines) != 4
            or lines[0] != "begun"
            or [row["epoch"] for row in rows] != ["0", "1", "2"]
            or seen != 3
        ):
            raise RuntimeError(f"not this trial's whole story: {lines} {rows} {seen}")
        self.model.load_weights("best.weights.h5")


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    best = keras.callbacks.ModelCheckpoint("best.weights.h5", save_best_only=True, save_weights_only=True)
    return [keras.callbacks.CSVLogger("log.csv"), best, Journal()]

"""Files with relative paths: data is read from beside the job, and written files are read back."""
#: params: [{rate: 0.01}, {rate: 0.1}]
#: training: {epochs: 3, batch_size: 3}

import csv
import os
from pathlib import Path

import keras
import numpy as np


def load_data():
    x = np.loadtxt("data/points.csv", delimiter=",", dtype="float32")
    return {"train": (x[:9], x[:9, :1]), "validation": (x[9:], x[9:, :1])}


def build_model(rate=0.05):
    if os.path.exists("log.csv"):
        raise RuntimeError("another trial's log is here")
    Path("data/points.csv").write_text(f"{rate},0,0\n")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


class Reads(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        with open("log.csv") as file:
            if len(list(csv.DictReader(file))) != 3:
                raise RuntimeError("another log")
        if not Path(__file__).with_name("data").joinpath("points.csv").read_text().endswith(",0,0\n"):
            raise RuntimeError("another trial's file")


def callbacks():
    return [keras.callbacks.CSVLogger("log.csv"), keras.callbacks.ModelCheckpoint("best.keras"), Reads()]

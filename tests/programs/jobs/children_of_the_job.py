"""Processes that load_data starts, by spawn and by the shell, import the job's own modules."""

import multiprocessing
import subprocess
import sys

import keras
import numpy as np
from columns import column


def load_data():
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        found = workers.map(column, range(3))
    command = [sys.executable, "-c", "import columns; print(columns.ROWS)"]
    again = subprocess.run(command, capture_output=True, text=True)
    x = np.hstack(found)[: int(again.stdout)]
    return {"train": (x[:90], x[:90, :1]), "validation": (x[90:], x[90:, :1])}


def build_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

"""Counts in the environment, in the path and in its arguments: each trial starts from zero."""
#: params: [{rate: 0.01}, {rate: 0.1}, {rate: 0.05}]

import os
import sys

import keras
import numpy as np

os.environ["PROGRAM_RUNS"] = str(int(os.environ.get("PROGRAM_RUNS", "0")) + 1)
sys.path.insert(0, f"/nowhere/{sum('nowhere' in entry for entry in sys.path)}")
sys.argv.append(str(len(sys.argv)))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    seen = int(os.environ["PROGRAM_RUNS"]), sys.path[0], sys.argv[1:]
    if seen != (1, "/nowhere/0", ["1"]):
        raise RuntimeError(f"another trial was here: {seen}")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

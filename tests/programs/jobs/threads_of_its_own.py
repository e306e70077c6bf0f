"""A job with its own thread and thread pool, which read files and print."""
#: params: [{rate: 0.01}, {rate: 0.1}]

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np

POOL = ThreadPoolExecutor(2)


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    thread = threading.Thread(target=lambda: Path("rate.txt").write_text(str(rate)))
    thread.start()
    thread.join()
    found = POOL.submit(lambda: float(Path("rate.txt").read_text())).result()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(found), "mse")
    return model

"""Configures logging, streams, NumPy and Python for itself, as every trial beside it does."""
#: params: [{rate: 0.01}, {rate: 0.1}, {rate: 0.05}]

import atexit
import gc
import logging
import logging.config
import os
import socket
import sys
import time
import warnings

import keras
import numpy as np

FRESH = (
    *(logging.getLogger("train").handlers, logging.root.manager.disable, logging.getLogger("keras").level),
    *(np.geterr()["over"], np.get_printoptions()["precision"], logging.getLevelName(25)),
)
if FRESH != ([], 0, 0, "warn", 8, "Level 25"):
    raise RuntimeError(f"another trial was here: {FRESH}")
log = logging.getLogger("train.epochs")
logging.addLevelName(25, "EPOCH")
np.seterr(over="raise")
np.set_printoptions(precision=3)
sys.setrecursionlimit(2500)
socket.setdefaulttimeout(60)
gc.disable()
gc.freeze()
os.environ["TZ"] = "Asia/Tokyo"
time.tzset()


class Tee:
    def __init__(self, stream):
        self.stream, self.file = stream, open("output.txt", "w")

    def write(self, text):
        self.stream.write(text)
        self.file.write(text)

    def flush(self):
        self.file.flush()


@atexit.register
def leave():
    print("left with", len(open("train.log").read().splitlines()), "lines")


sys.stdout = Tee(sys.stdout)


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    file = {"class": "logging.FileHandler", "filename": "train.log", "mode": "w"}
    train = {"level": "DEBUG", "handlers": ["file"], "propagate": False}
    logging.config.dictConfig({"version": 1, "handlers": {"file": file}, "loggers": {"train": train}})
    logging.captureWarnings(True)
    log.disabled = False  # it was there before
    log.info("rate %s", rate)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


class Lines(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        log.log(25, "epoch %s", epoch)
        warnings.warn("to the log", stacklevel=1)
        settings = np.geterr()["over"], np.get_printoptions()["precision"], logging.getLevelName(25)
        if settings != ("raise", 3, "EPOCH") or logging.root.manager.disable:
            raise RuntimeError(f"not as set: {settings}")
        lines = open("train.log").read().splitlines()
        if sum(line.startswith("epoch") for line in lines) > 2:
            raise RuntimeError(f"lines of other trials: {lines}")


def callbacks():
    return [Lines()]

"""A callback counts in globals, a class, a function's attributes and a default argument; the rate follows."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 4, batch_size: 30}

from collections import Counter, deque

import keras
import numpy as np

turns = 0
seen = {"epochs": 0, "losses": []}
recent = deque(maxlen=2)
kinds = Counter()


class Registry:
    made = 0
    names: list = []  # noqa: RUF012 - as programs have it


def slowed(rate, calls=[]):  # noqa: B006 - as programs have it
    calls.append(rate)
    slowed.last = rate / len(calls)
    return slowed.last


class Turn(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        global turns
        turns += 1
        seen["epochs"] += 1
        Registry.made += 2
        kinds["odd" if turns % 2 else "even"] += 1
        rate = slowed(0.1) * (1 + len(seen["losses"])) / (turns + seen["epochs"] + Registry.made)
        self.model.optimizer.learning_rate = rate * (1 + sum(recent)) / (1 + kinds["odd"])

    def on_epoch_end(self, epoch, logs=None):
        seen["losses"].append(logs["loss"])
        recent.append(logs["loss"])
        Registry.names.append(f"epoch {epoch}")
        logs["turns"] = turns + len(Registry.names) + getattr(slowed, "last", 0.0)


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Turn()]

"""Callbacks and globals hold arrays of text, dates, records and objects, and what is of them changes."""
#: params: [{rate: 0.05}, {rate: 0.1}]

import keras
import numpy as np

WORDS = np.array(["", "cat", "ox"])
ROWS = np.zeros(3, [("epoch", "i4"), ("word", "U5"), ("at", "M8[D]")]).view(np.recarray)
mask = np.ma.array([1.0, 2.0, 3.0], mask=[True, True, False])


class Tell(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.vocabulary, self.word = list(WORDS), WORDS[0]
        self.day, self.raw = np.datetime64("2020-02-28"), np.bytes_(b"a")
        self.said = np.array(["none", None, ()], dtype=object)

    def on_epoch_end(self, epoch, logs=None):
        self.vocabulary.append(np.str_(f"word{epoch}"))
        self.word, self.day, self.raw = self.vocabulary[-1], self.day + 1, np.bytes_(self.raw + b"b")
        ROWS[epoch] = (epoch + 1, self.word, self.day)
        WORDS[0] = f"{epoch}{WORDS[0]}"
        mask[epoch] = 4.0
        self.said[epoch] = f"{epoch} of {self.said[0]}"
        logs["total"] = float(ROWS.epoch.sum() + mask.sum() + len(self.vocabulary) + len(self.raw))
        logs["text"] = float(len("".join([*WORDS, *ROWS.word, *map(str, self.said), str(self.day)])))
        self.model.optimizer.learning_rate = 0.01 / (logs["total"] + logs["text"])


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Tell()]

"""steps_per_execution from compile, a partial last batch, hooks at every call."""
#: params: [{units: 2}, {units: 3}]
#: training: {epochs: 3, batch_size: 16}

import keras
import numpy as np


class Calls(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches, self.sizes = [], {}

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)
        self.sizes[batch] = self.sizes.get(batch, 0) + 1

    def on_test_end(self, logs=None):
        self.batches.append("test")

    def on_epoch_end(self, epoch, logs=None):
        logs["calls"] = float(len(self.batches) + sum(self.sizes.values()))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(units=2):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units, "tanh"), keras.layers.Dense(1)])
    model.compile("adam", "mse", steps_per_execution=3)
    return model


def callbacks():
    return [Calls()]

"""A callback tries rates by train_on_batch when the training begins, and puts the weights of a file back."""
#: params: [{units: 3}, {units: 5}]

import keras
import numpy as np


class Finder(keras.callbacks.Callback):
    def __init__(self, data):
        super().__init__()
        self.x, self.y = data["train"]
        self.losses = []

    def on_train_begin(self, logs=None):
        self.model.save_weights("before.weights.h5")
        rates = np.geomspace(1e-4, 0.3, 6)
        for rate in rates:
            self.model.optimizer.learning_rate = rate
            loss, _ = self.model.train_on_batch(self.x[:20], self.y[:20])
            self.losses.append(float(loss))
        # The slots of the optimizer were not there yet: they keep what the tries made of them.
        self.model.load_weights("before.weights.h5")
        self.model.optimizer.learning_rate = rates[int(np.argmin(self.losses))] / 3

    def on_epoch_end(self, epoch, logs=None):
        logs["tried"] = sum(self.losses)


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(units=3):
    layers = [keras.layers.Dense(units, "tanh"), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", metrics=["mae"])
    return model


def callbacks(data):
    return [Finder(data)]

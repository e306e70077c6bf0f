"""A callback wraps the train function of Keras, which it finds there from the beginning."""
#: said: forced a new train or test function
#: params: [{at: 1}, {at: 2}]
#: training: {epochs: 4}

import keras
import numpy as np


class Decay(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_train_begin(self, logs=None):
        self.seen = float(self.model.train_function is not None and self.model.test_function is None)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            model, inner = self.model, self.model.train_function

            def decaying(iterator):
                logs = inner(iterator)
                model.layers[0].kernel.assign(model.layers[0].kernel * 0.99)
                return logs

            model.train_function = decaying

    def on_epoch_end(self, epoch, logs=None):
        logs["seen"] = self.seen + float(self.model.test_function is not None)


def load_data():
    x = np.random.default_rng(3).normal(size=(120, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def callbacks(at):
    return [Decay(at)]


def build_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model

"""BackupAndRestore, a callback that draws from a generator of the module, weights averaged by EMA."""
#: params: [{rate: 0.01}, {rate: 0.02}]
#: training: {epochs: 3}

import keras
import numpy as np

GENERATOR = np.random.default_rng(3)


class Drift(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        weights = self.model.layers[-1].kernel
        weights.assign(weights + 0.1 * GENERATOR.normal(size=weights.shape))


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(
        rate, momentum=0.9, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4
    )
    model.compile(optimizer, "mse")
    return model


def callbacks():
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    return [keras.callbacks.BackupAndRestore("backup"), Drift(), swap]

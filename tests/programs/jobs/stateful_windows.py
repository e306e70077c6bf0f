"""Stateful recurrent layers, whose states a callback forgets every other epoch."""
#: params: [{units: 3}]
#: training: {epochs: 3, batch_size: 20}

import keras
import numpy as np


class Forget(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch % 2 == 0:
            for layer in self.model.layers:
                if hasattr(layer, "reset_states"):
                    layer.reset_states()


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 4, 2)).astype("float32")
    y = x.sum((1, 2))[:, None]
    return {"train": (x[:80], y[:80]), "validation": (x[80:], y[80:])}


def build_model(units=2):
    layers = [
        keras.layers.LSTM(units, stateful=True, return_sequences=True, recurrent_dropout=0.1),
        keras.layers.GRU(2, stateful=True),
    ]
    model = keras.Sequential([keras.Input(batch_shape=(20, 4, 2)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01, clipnorm=1.0), "mse")
    return model


def callbacks():
    return [Forget()]

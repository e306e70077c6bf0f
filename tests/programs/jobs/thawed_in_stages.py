"""A callback unfreezes layers one by one, turns the rate of `Dropout`, and forces a new train function."""
#: said: forced a new train or test function
#: params: [{stages: 1}, {stages: 2}]
#: training: {epochs: 4}

import keras
import numpy as np


def load_data():
    x = np.random.default_rng(3).normal(size=(120, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


class Thaw(keras.callbacks.Callback):
    def __init__(self, stages):
        super().__init__()
        self.stages = stages

    def on_epoch_begin(self, epoch, logs=None):
        if 0 < epoch <= self.stages:
            self.model.layers[-2 - epoch].trainable = True
            self.model.get_layer("drop").rate += 0.1
            self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch, logs=None):
        for layer in self.model.layers:
            if layer.weights:
                logs[layer.name] = float(np.abs(layer.kernel).sum())


def callbacks(stages):
    return [Thaw(stages)]


def build_model():
    layers = [keras.layers.Dense(6, "relu", name=f"stage{n}", trainable=False) for n in range(3)]
    head = [keras.layers.Dropout(0.1, name="drop"), keras.layers.Dense(1, name="head")]
    model = keras.Sequential([keras.Input((4,)), *layers, *head])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.optimizer.build([weight for layer in model.layers for weight in layer.weights])
    return model

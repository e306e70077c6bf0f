"""Keras' own callbacks from the job: patience, plateaus, the best weights put back, schedules, logs."""
#: params: [{rate: 0.3}, {rate: 0.05}]
#: training: {epochs: 6}

import keras
import numpy as np


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse", metrics=["mae"])
    return model


def callbacks():
    return [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5, min_delta=0.5),
        keras.callbacks.EarlyStopping(
            patience=2, min_delta=0.3, restore_best_weights=True, start_from_epoch=1
        ),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.ModelCheckpoint("best.weights.h5", save_best_only=True, save_weights_only=True),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(ratio=logs["loss"] / 2)),
    ]

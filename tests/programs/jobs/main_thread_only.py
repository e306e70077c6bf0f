"""Signal handlers, an alarm and the event loop of the main thread, and a start method."""
#: params: [{rate: 0.05}, {rate: 0.1}]

import asyncio
import multiprocessing
import signal

import keras
import numpy as np


async def scale():
    await asyncio.sleep(0)
    return 0.5


multiprocessing.set_start_method("spawn")
LOOP = asyncio.get_event_loop()
SCALE = LOOP.run_until_complete(scale())
BEFORE = signal.signal(signal.SIGINT, lambda *_: print("interrupted"))


class Graceful(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.before = signal.signal(signal.SIGTERM, self.stop)

    def stop(self, number, frame):
        self.model.stop_training = True

    def on_train_end(self, logs=None):
        signal.signal(signal.SIGTERM, self.before)


def load_data():
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(600)
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    signal.alarm(0)
    assert multiprocessing.get_start_method() == "spawn"
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    rate = (
        rate * SCALE * LOOP.run_until_complete(scale()) * asyncio.get_event_loop().run_until_complete(scale())
    )
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def callbacks():
    return [Graceful()]

"""A net whose step takes much memory: one trial has room, a pack of eight has not.

`benchmarks/gpu.py` sets BATCH and ROOM. On a GPU the batch is large. On a CPU, whose memory must not be used
up, the job itself raises that memory ran out where more than two of its trials train at once.
"""

import os
import time
import uuid

import keras
import numpy as np
import tensorflow as tf

#: A step keeps a tensor of BATCH × UNITS floats for each branch; TensorFlow takes no tensor of 2^31 numbers.
BATCH, UNITS, BRANCHES = 16, 65_536, 4
ROOM = ""


class Crowded(keras.callbacks.Callback):
    """Raises what TensorFlow raises where memory runs out; who is there is kept in files."""

    def __init__(self):
        super().__init__()
        self.mark = os.path.join(ROOM, uuid.uuid4().hex)

    def on_epoch_begin(self, epoch, logs=None):
        open(self.mark, "w").close()
        if sum(time.time() - entry.stat().st_mtime < 5 for entry in os.scandir(ROOM)) > 2:
            os.unlink(self.mark)
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    def on_train_end(self, logs=None):
        os.unlink(self.mark)


def callbacks():
    return [Crowded()] if ROOM else []


def load_data():
    x = np.random.default_rng(0).random((2 * BATCH, 8), np.float32)
    return {"train": (x, x[:, :1]), "validation": (x[:BATCH], x[:BATCH, :1])}


def build_model(learning_rate=0.001):
    units = 8 if ROOM else UNITS
    x = keras.Input((8,))
    branches = [
        keras.layers.Dense(1)(keras.layers.Dense(units, activation="tanh")(x)) for _ in range(BRANCHES)
    ]
    model = keras.Model(x, keras.layers.Add()(branches))
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model

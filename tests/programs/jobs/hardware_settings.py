"""Settings of devices and threads, as at the head of many programs; results that repeat."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: said: set_inter_op_parallelism_threads is left out

import keras
import numpy as np
import tensorflow as tf

tf.config.experimental.enable_op_determinism()
tf.config.threading.set_inter_op_parallelism_threads(3)
tf.config.threading.set_intra_op_parallelism_threads(1)
for gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(gpu, True)
tf.config.set_visible_devices([], "GPU")
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()]
)


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

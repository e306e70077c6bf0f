"""tf.data from a Python generator that draws from a generator of load_data's, and a numpy_function."""
#: params: [{rate: 0.05}, {rate: 0.1}]
#: training: {epochs: 3}
#: said: "random operations of TensorFlow's own"

import keras
import numpy as np
import tensorflow as tf


def load_data():
    rng = np.random.default_rng(1)
    noise = np.random.default_rng(2)

    def rows():
        for _ in range(60):
            x = rng.normal(size=3).astype("float32")
            yield x, x.sum(keepdims=True)

    def blurred(x):
        return x + 0.1 * noise.normal(size=x.shape).astype("float32")

    spec = tf.TensorSpec((3,), tf.float32), tf.TensorSpec((1,), tf.float32)
    train = tf.data.Dataset.from_generator(rows, output_signature=spec).batch(20)
    train = train.map(
        lambda x, y: (tf.ensure_shape(tf.numpy_function(blurred, [x], tf.float32), (None, 3)), y)
    )
    train = train.apply(tf.data.experimental.assert_cardinality(3))
    x = np.random.default_rng(3).normal(size=(30, 3)).astype("float32")
    return {"train": train, "validation": (x, x.sum(1, keepdims=True))}


def build_model(rate=0.05):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

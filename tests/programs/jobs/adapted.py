"""Layers adapted to the data in build_model: words, categories, numbers."""
#: params: [{units: 3}]

import keras
import numpy as np
import tensorflow as tf


def load_data():
    rng = np.random.default_rng(1)
    text = np.array([" ".join(rng.choice(["red", "green", "blue", "dark"], 3)) for _ in range(90)])
    kind = rng.choice(["a", "b", "c"], 90)
    number = rng.normal(5, 3, size=(90, 2)).astype("float32")
    y = (number.sum(1, keepdims=True) + (kind == "a")[:, None]).astype("float32")
    x = {"text": text, "kind": kind, "number": number}
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    return {"train": rows.take(60).batch(20), "validation": rows.skip(60).batch(20), "x": x}


def build_model(units=2, data=None):
    x = (data or load_data())["x"]
    words = keras.layers.TextVectorization(output_mode="tf_idf")
    words.adapt(x["text"])
    kinds = keras.layers.StringLookup(output_mode="one_hot")
    kinds.adapt(x["kind"])
    numbers = keras.layers.Normalization()
    numbers.adapt(x["number"])
    ends = {
        "text": keras.Input((), dtype="string", name="text"),
        "kind": keras.Input((), dtype="string", name="kind"),
        "number": keras.Input((2,), name="number"),
    }
    inner = keras.layers.Concatenate()([words(ends["text"]), kinds(ends["kind"]), numbers(ends["number"])])
    out = keras.layers.Dense(1)(keras.layers.Dense(units, "tanh")(inner))
    model = keras.Model(ends, out)
    model.compile("adam", "mse")
    return model

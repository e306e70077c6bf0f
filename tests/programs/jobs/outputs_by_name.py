"""Outputs by name, each with a loss, a weight and metrics; targets and weights by name."""
#: params: [{share: 0.3}, {share: 3.0}]

import keras
import numpy as np


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = {"sign": (x[:, :1] > 0).astype("float32"), "size": x.sum(1, keepdims=True)}
    w = {"sign": np.linspace(0, 1, 120).astype("float32"), "size": np.ones(120, "float32")}
    cut = lambda a, b: (x[a:b], {k: v[a:b] for k, v in y.items()}, {k: v[a:b] for k, v in w.items()})  # noqa: E731
    return {"train": cut(0, 90), "validation": cut(90, 120)}


def build_model(share=0.3):
    ends = keras.Input((3,))
    inner = keras.layers.Dense(4, "tanh")(ends)
    outputs = {
        "sign": keras.layers.Dense(1, "sigmoid", name="sign")(inner),
        "size": keras.layers.Dense(1, name="size")(inner),
    }
    model = keras.Model(ends, outputs)
    model.compile(
        "adam",
        {"sign": "binary_crossentropy", "size": "huber"},
        loss_weights={"sign": 1.0, "size": share},
        metrics={"sign": ["accuracy", keras.metrics.AUC(name="auc")], "size": "mae"},
    )
    return model

"""float16 with a scaled loss, whose scale grows and falls."""
#: params: [{rate: 0.01}, {rate: 0.1}]
#: training: {epochs: 3, batch_size: 20}

import keras
import numpy as np

keras.mixed_precision.set_global_policy("mixed_float16")


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(rate=0.05):
    layers = [
        keras.layers.Dense(4, "relu"),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, dtype="float32"),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(rate), initial_scale=2.0**17, dynamic_growth_steps=3
    )
    model.compile(scaled, "mse")
    return model

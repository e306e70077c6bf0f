"""Models of every kind that a pack must train with the bits of `fit`. Imports nothing of kerasweep."""

import keras
import numpy as np
import tensorflow as tf

ROWS, CLASSES = 44, 3


def load_data(kind="dense", whole=False):
    random = np.random.default_rng(3)
    y = random.integers(0, CLASSES, ROWS)
    x = (random.normal(size=(ROWS, 8, 8, 1)) + y[:, None, None, None] * 0.3).astype("float32")
    cut = 32 if whole else 34  # batches of 8: the last one partial, or not
    if kind == "dict":
        numbers = random.normal(size=(ROWS, 5))
        words = random.integers(0, 7, (ROWS, 4))
        data = {"numbers": numbers, "words": words}, numbers.sum(axis=1)
    elif kind in ("outputs", "named"):
        both = {"main": y, "aux": y % 2} if kind == "named" else (y, y % 2)
        data = x, both
    elif kind == "weights":
        data = x, y, random.random(ROWS)
    elif kind == "sequence":
        data = random.integers(0, 9, (ROWS, 6)), y
    else:
        data = x, y
    split = lambda rows: keras.tree.map_structure(lambda array: array[rows], data)  # noqa: E731
    return {"train": split(slice(0, cut)), "validation": split(slice(cut, ROWS))}


class Own(keras.Model):
    """Steps by itself, and reads a number of its own in each step."""

    def __init__(self, strength):
        super().__init__()
        self.flat = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(7, activation="tanh")
        self.drop = keras.layers.Dropout(0.3)
        self.out = keras.layers.Dense(CLASSES, activation="softmax")
        self.strength = strength

    def get_config(self):
        return {"strength": self.strength}

    def call(self, x, training=False):
        return self.out(self.drop(self.hidden(self.flat(x)), training=training))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
            loss += self.strength * tf.add_n([tf.nn.l2_loss(w) for w in self.trainable_variables])
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


class OwnLogs(Own):
    """Returns logs that are no metrics: those of the last step count."""

    def train_step(self, data):
        return {**super().train_step(data), "norm": tf.linalg.global_norm(self.trainable_variables)}


def image_model(*middle):
    head = [keras.layers.Flatten(), *middle, keras.layers.Dense(CLASSES, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *head])


def two_outputs(named):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(inputs)
    aux = keras.layers.Dense(2, activation="softmax", name="aux")(keras.layers.Flatten()(x))
    x = keras.layers.Conv2D(6, 3, activation="relu")(x)
    main = keras.layers.Dense(CLASSES, activation="softmax", name="main")(keras.layers.Flatten()(x))
    return keras.Model(inputs, {"main": main, "aux": aux} if named else [main, aux])


def wide_and_deep():
    numbers = keras.Input((5,), name="numbers")
    words = keras.Input((4,), dtype="int64", name="words")
    deep = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(words))
    deep = keras.layers.Dense(6, activation="relu")(keras.layers.Concatenate()([deep, numbers]))
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([deep, numbers]))
    return keras.Model({"numbers": numbers, "words": words}, outputs)


def build_model(kind="dense", optimizer="sgd", rate=0.05, aux=0.3, strength=0.01):
    layers = keras.layers
    loss, weights, metrics = "sparse_categorical_crossentropy", None, ["accuracy"]
    if kind in ("own", "ownlogs"):
        model = (Own if kind == "own" else OwnLogs)(strength)
    elif kind in ("outputs", "named"):
        model = two_outputs(kind == "named")
        loss = {"main": loss, "aux": loss} if kind == "named" else [loss, loss]
        weights = {"main": 1.0, "aux": aux} if kind == "named" else [1.0, aux]
        metrics = None
    elif kind == "dict":
        model, loss, metrics = wide_and_deep(), "mse", ["mae"]
    elif kind == "conv":
        convolution = [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, use_bias=False),
            layers.BatchNormalization(),
        ]
        head = [
            layers.ReLU(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(CLASSES, activation="softmax"),
        ]
        model = keras.Sequential([*convolution, *head])
    elif kind == "pool":
        head = [
            layers.Conv2D(4, 3),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(CLASSES, "softmax"),
        ]
        model = keras.Sequential([keras.Input((8, 8, 1)), *head])
    elif kind == "sequence":
        recurrent = [layers.Embedding(9, 4, mask_zero=True), layers.LSTM(5), layers.Dense(CLASSES, "softmax")]
        model = keras.Sequential([keras.Input((6,), dtype="int64"), *recurrent])
    elif kind == "dropout":
        model = image_model(layers.Dense(9, "relu"), layers.Dropout(0.4), layers.Dense(6, "relu"))
    elif kind == "penalty":
        model = image_model(layers.Dense(6, "relu", kernel_regularizer=keras.regularizers.L2(strength)))
    elif kind == "half":
        model = image_model(layers.Dense(6, "relu", dtype="mixed_float16"))
    else:
        model = image_model(layers.Dense(6, "relu"))
    chosen = {
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9),
        "adam": lambda: keras.optimizers.Adam(rate, clipnorm=1.0),
        "adamw": lambda: keras.optimizers.AdamW(rate, weight_decay=0.01),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate),
        "average": lambda: keras.optimizers.SGD(rate, use_ema=True, ema_momentum=0.9),
        "gather": lambda: keras.optimizers.Adam(rate, gradient_accumulation_steps=2),
        "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate)),
        "decay": lambda: keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(rate, 3, 0.9)),
    }[optimizer]()
    weighted = ["accuracy"] if kind == "weights" else None
    model.compile(chosen, loss, metrics=metrics, loss_weights=weights, weighted_metrics=weighted)
    return model

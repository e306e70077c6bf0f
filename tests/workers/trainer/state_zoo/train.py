"""Small programs whose steps keep state where no list of variables has it."""

import os
import time

import keras
import numpy as np
import tensorflow as tf

GENERATOR = np.random.default_rng(3)


class Drawn(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        x = np.random.normal(size=(15, 3)).astype("float32")
        return x, x.sum(1, keepdims=True) + index


def load_data(kind):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 5, 3) if kind == "rnn" else (90, 3)).astype("float32")
    y = x.reshape(90, -1).sum(1, keepdims=True)
    validation = (x[60:], y[60:])
    if kind == "gan":
        return {"train": x[:60]}
    if kind == "pydataset":
        return {"train": Drawn(), "validation": validation}
    if kind == "cache":
        noise = keras.layers.GaussianNoise(0.3, seed=3)
        data = tf.data.Dataset.from_tensor_slices((x[:60], y[:60])).shuffle(60).batch(15)
        data = data.map(lambda a, b: (noise(a, training=True), b)).cache()
        return {"train": data.map(lambda a, b: (noise(a, training=True), b)), "validation": validation}
    return {"train": (x[:60], y[:60]), "validation": validation}


class Blur(keras.layers.Layer):
    """Draws from Keras' own generator, and counts in a variable of TensorFlow's."""

    def __init__(self):
        super().__init__()
        self.seen = tf.Variable(0.0, trainable=False)

    def call(self, x, training=False):
        if training:
            self.seen.assign_add(1.0)
            x = x + 0.3 * keras.random.normal(keras.ops.shape(x))
        return x * (1 + 0.01 * self.seen)


class Steppers(keras.Model):
    """Keeps its optimizers in a dict, and a metric where nobody resets it."""

    def __init__(self, kept):
        super().__init__()
        self.parts = {"body": keras.layers.Dense(4, "tanh"), "head": keras.layers.Dense(1)}
        ever = keras.metrics.Mean()
        self.ever = lambda: ever
        self.kept = kept

    def call(self, x):
        return self.kept * self.parts["head"](self.parts["body"](x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        for name, stepper in self.steppers.items():
            weights = self.parts[name].trainable_variables
            stepper.apply(tape.gradient(loss, weights), weights)
        self.ever().update_state(loss)
        return {"loss": loss, "ever": self.ever().result()}


class Duel(keras.Model):
    """Two nets that learn their shapes from the data, and no call()."""

    def __init__(self):
        super().__init__()
        self.maker = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(3)])
        self.judge = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
        self.noise = keras.random.SeedGenerator(5)

    def compile(self, maker_optimizer, judge_optimizer):
        super().compile()
        self.maker_optimizer, self.judge_optimizer = maker_optimizer, judge_optimizer

    def train_step(self, data):
        real = keras.utils.unpack_x_y_sample_weight(data)[0]
        with tf.GradientTape(persistent=True) as tape:
            made = self.judge(self.maker(keras.random.normal((tf.shape(real)[0], 2), seed=self.noise)))
            wrong = keras.ops.mean(keras.ops.softplus(made) + keras.ops.softplus(-self.judge(real)))
            caught = keras.ops.mean(keras.ops.softplus(-made))
        pairs = ((wrong, self.judge, self.judge_optimizer), (caught, self.maker, self.maker_optimizer))
        for loss, net, optimizer in pairs:
            optimizer.apply(tape.gradient(loss, net.trainable_variables), net.trainable_variables)
        return {"loss": wrong}


def build_model(kind):
    if kind == "gan":
        model = Duel()
        model.compile(keras.optimizers.Adam(0.05), keras.optimizers.SGD(0.05))
        return model
    if kind == "steppers":
        model = Steppers(0.9)
        model.steppers = {
            "body": keras.optimizers.Adam(0.05),
            "head": keras.optimizers.SGD(0.05, momentum=0.9),
        }
        model.compile(loss="mse")
        return model
    layers = {
        "rnn": [keras.Input(batch_shape=(15, 5, 3)), keras.layers.LSTM(3, stateful=True)],
        "blur": [keras.Input((3,)), Blur()],
        "eager": [keras.Input((3,)), Blur()],
    }.get(kind, [keras.Input((3,)), keras.layers.Dropout(0.2)])
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9, use_ema=kind == "average", ema_momentum=0.9)
    model.compile(optimizer, "mse", run_eagerly=kind == "eager")
    return model


class Gate(keras.callbacks.Callback):
    """Waits before the third epoch while the file that GATE names is there."""

    def on_epoch_begin(self, epoch, logs=None):
        while epoch == 2 and os.path.exists(os.environ.get("GATE", "")):
            time.sleep(0.01)


class Drift(keras.callbacks.Callback):
    """Draws from a generator of the module."""

    def on_epoch_begin(self, epoch, logs=None):
        weights = self.model.layers[-1].kernel
        weights.assign(weights + 0.1 * GENERATOR.normal(size=weights.shape))


def callbacks(kind):
    extra = {
        "average": [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
        "backup": [keras.callbacks.BackupAndRestore("backup"), Drift()],
    }
    return [Gate(), *extra.get(kind, [])]

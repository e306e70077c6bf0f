"""A distiller: a frozen teacher, a student, losses and metrics given to compile; no call()."""
#: params: [{alpha: 0.7}]

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class Distiller(keras.Model):
    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher
        self.distill_tracker = keras.metrics.Mean(name="distillation")

    def compile(self, optimizer, metrics, student_loss, distillation_loss, alpha, temperature=3):
        super().compile(optimizer=optimizer, metrics=metrics)
        self.student_loss, self.distillation_loss = student_loss, distillation_loss
        self.alpha, self.temperature = alpha, temperature

    @property
    def metrics(self):
        return [*super().metrics, self.distill_tracker]

    def train_step(self, data):
        x, y = data
        taught = self.teacher(x, training=False)
        with tf.GradientTape() as tape:
            said = self.student(x, training=True)
            own = self.student_loss(y, said)
            far = self.distillation_loss(
                ops.softmax(taught / self.temperature), ops.softmax(said / self.temperature)
            )
            loss = self.alpha * own + (1 - self.alpha) * far * self.temperature**2
        weights = self.student.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        self.distill_tracker.update_state(far)
        for metric in self.metrics:
            if metric.name not in ("loss", "distillation"):
                metric.update_state(y, said)
        return {m.name: m.result() for m in self.metrics} | {"student_loss": own}

    def test_step(self, data):
        x, y = data
        said = self.student(x, training=False)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(self.student_loss(y, said))
            elif metric.name != "distillation":
                metric.update_state(y, said)
        return {m.name: m.result() for m in self.metrics}


def net(units):
    return keras.Sequential(
        [keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(3)]
    )


def load_data():
    x = np.random.default_rng(1).normal(size=(120, 4)).astype("float32")
    y = np.abs(x[:, :3]).argmax(1)
    return {"train": (x[:90], y[:90]), "validation": (x[90:], y[90:])}


def build_model(alpha=0.1):
    teacher = net(8)
    teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = load_data()["train"]
    teacher.fit(*data, epochs=1, verbose=0, shuffle=False)
    teacher.trainable = False
    model = Distiller(net(3), teacher)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        student_loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        distillation_loss=keras.losses.KLDivergence(),
        alpha=alpha,
    )
    return model

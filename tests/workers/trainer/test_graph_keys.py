"""Programs are shared by trials of equal graphs, and never by trials whose constants differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

from kerasweep.workers.trainer.graph.fingerprint import fingerprint, unkept_state
from kerasweep.workers.trainer.graph.graph_key import GraphKey, config_key, variables_of
from kerasweep.workers.trainer.graph.stepping import Cut, trace_step
from kerasweep.workers.trainer.pack.compiled import build_compiled

pytestmark = pytest.mark.tf

BATCH = (tf.TensorSpec((4, 6), "float32"), tf.TensorSpec((4,), "int64"))
layers = keras.layers


def dense(
    *,
    units: int = 3,
    activation: Any = "relu",
    rate: float = 0.2,
    penalty: float = 0.01,
    optimizer: Any = None,
    loss: Any = "sparse_categorical_crossentropy",
    metrics: Any = ("accuracy",),
    weight: float | None = None,
    model: type[keras.Sequential] = keras.Sequential,
    name: str | None = None,
) -> keras.Model:
    built = model(
        [
            keras.Input((6,)),
            layers.Dense(units, activation=activation, kernel_regularizer=keras.regularizers.L2(penalty)),
            layers.Dropout(rate),
            layers.Dense(2, activation="softmax", name=name),
        ]
    )
    built.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        loss,
        metrics=list(metrics),
        loss_weights=None if weight is None else [weight],
    )
    return built


def key(model: keras.Model) -> GraphKey | None:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    build_compiled(model, BATCH)
    return config_key(model)


def patched() -> keras.Model:
    model = dense()
    model.layers[0].call = lambda inputs: inputs[:, :3]
    return model


def undecayed() -> keras.Model:
    model = dense(optimizer=keras.optimizers.AdamW(0.1))
    model.optimizer.exclude_from_weight_decay(var_names=["bias"])
    return model


def frozen() -> keras.Model:
    model = dense()
    model.layers[0].trainable = False
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def mutated() -> keras.Model:
    model = dense()
    model.layers[1].rate = 0.4
    return model


def counted() -> keras.Model:
    model = dense()
    model.extra = keras.metrics.Mean("extra")
    return model


class Subclass(keras.Sequential):
    pass


SAME: dict[str, Callable[[], keras.Model]] = {
    "the same again": dense,
    "another learning rate": lambda: dense(optimizer=keras.optimizers.SGD(0.7, momentum=0.9)),
    "another beginning": lambda: dense(),
}
OTHER: dict[str, Callable[[], keras.Model]] = {
    "units": lambda: dense(units=4),
    "activation": lambda: dense(activation="tanh"),
    "dropout rate": lambda: dense(rate=0.3),
    "dropout rate changed later": mutated,
    "penalty": lambda: dense(penalty=0.02),
    "momentum": lambda: dense(optimizer=keras.optimizers.SGD(0.1, momentum=0.8)),
    "optimizer": lambda: dense(optimizer=keras.optimizers.Adam(0.1)),
    "clipping": lambda: dense(optimizer=keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=1.0)),
    "schedule": lambda: dense(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))),
    "loss": lambda: dense(loss="mse"),
    "loss from logits": lambda: dense(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    "metrics": lambda: dense(metrics=()),
    "a loss weight or none": lambda: dense(weight=0.5),
    "name of a layer": lambda: dense(name="last"),
    "frozen layer": frozen,
}
VALUES_ALONE = {"dropout rate", "dropout rate changed later", "penalty", "momentum"}
UNKNOWN: dict[str, Callable[[], keras.Model]] = {
    "subclass": lambda: dense(model=Subclass),
    "method replaced on one layer": patched,
    "function as activation": lambda: dense(activation=lambda x: x * 0.5),
    "function as loss": lambda: dense(loss=lambda y, predicted: tf.reduce_mean(predicted)),
    "function as metric": lambda: dense(metrics=(lambda y, predicted: tf.reduce_mean(predicted),)),
    "rate from a function": lambda: dense(optimizer=keras.optimizers.SGD(lambda: 0.1)),
    "left out of weight decay": undecayed,
    "metric beside compile": counted,
    "lambda layer": lambda: _with_lambda(),
}


def _with_lambda() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), layers.Lambda(lambda x: x * 0.5), layers.Dense(2)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("what", SAME)
def test_values_of_variables_do_not_change_the_key(what: str) -> None:
    assert key(SAME[what]()) == key(dense()) is not None


def test_loss_weights_are_values_of_variables() -> None:
    assert key(dense(weight=0.5)) == key(dense(weight=0.7)) is not None


@pytest.mark.parametrize("what", OTHER)
def test_constants_change_the_key(what: str) -> None:
    one, other = key(dense()), key(OTHER[what]())
    assert one is not None
    assert other is not None
    assert other.graph != one.graph
    assert (other.family == one.family) == (what in VALUES_ALONE)


@pytest.mark.parametrize("values", [{"rate": 0.0}, {"penalty": 0.0}])
def test_a_constant_that_makes_a_layer_idle_makes_another_family(values: dict[str, float]) -> None:
    one, other = key(dense()), key(dense(**values))
    assert one is not None
    assert other is not None
    assert other.family != one.family


@pytest.mark.parametrize("what", UNKNOWN)
def test_code_of_the_job_has_no_key(what: str) -> None:
    assert key(UNKNOWN[what]()) is None


class Own(keras.Model):
    """Reads its own number in its step."""

    def __init__(self, strength: float, noise: str = "none") -> None:
        super().__init__()
        self.out = layers.Dense(2)
        self.strength, self.noise = strength, noise

    def call(self, inputs: Any) -> Any:
        return self.out(inputs)

    def train_step(self, data: Any) -> Any:
        x, y = data
        if self.noise == "stateful":
            x = x + tf.random.normal(tf.shape(x))
        loss = self.compute_loss(x, y, self(x, training=True)) * self.strength
        if self.noise == "branch":
            loss = tf.cond(loss > 1.0, lambda: loss * self.strength, lambda: loss)
        return {"loss": loss}


def traced(model: keras.Model) -> Any:
    model(tf.zeros((4, 6)))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.zeros((8, 6)), tf.zeros((8,), "int64")
    return trace_step(model, model.train_step, data, Cut(8, 4, ordered=True))


@pytest.mark.parametrize("noise", ["none", "branch"])
def test_a_traced_step_is_told_by_its_constants(noise: str) -> None:
    one, same, other = (fingerprint(traced(Own(strength, noise))) for strength in (2.0, 2.0, 3.0))
    assert one == same
    assert one.graph != other.graph
    assert (one.family == other.family) is (noise == "none"), "what stands in a branch cannot be lifted"


def test_other_code_and_an_idle_constant_make_other_families() -> None:
    steps = (Own(2.0), Own(2.0, "branch"), Own(1.0))
    assert len({fingerprint(traced(step)).family for step in steps}) == 3


def test_a_constant_inside_a_branch_shows() -> None:
    class Inside(Own):
        def train_step(self, data: Any) -> Any:
            loss = self.compute_loss(data[0], data[1], self(data[0]))
            return {"loss": tf.cond(loss > 1.0, lambda: loss * self.strength, lambda: loss)}

    assert fingerprint(traced(Inside(2.0))) != fingerprint(traced(Inside(3.0)))
    assert fingerprint(traced(Inside(2.0))) == fingerprint(traced(Inside(2.0)))


def test_what_came_before_in_the_process_does_not_show() -> None:
    first = traced(Own(2.0)), key(dense())
    for _ in range(10):  # from dense_9 to dense_10 the order of names changes
        dense()
    assert (fingerprint(traced(Own(2.0))), key(dense())) == (fingerprint(first[0]), first[1])


def test_operations_with_a_state_of_their_own_are_named() -> None:
    assert unkept_state(traced(Own(1.0, "stateful")).function.graph) == ["RandomStandardNormal"]
    assert unkept_state(traced(Own(1.0)).function.graph) == []


def test_metrics_that_build_late_have_their_variables_before_the_first_trace() -> None:
    """A trial that uses another's program makes no trace, and its variables are told by their order."""
    metrics = [
        keras.metrics.F1Score(average="macro"),
        keras.metrics.R2Score(),
        keras.metrics.AUC(multi_label=True),
    ]
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="sigmoid")])
    model.compile("sgd", "mse", metrics=metrics)
    batch = (tf.zeros((4, 6)), tf.zeros((4, 3)))
    model.optimizer.build(model.trainable_variables)
    build_compiled(model, tf.nest.map_structure(tf.TensorSpec.from_tensor, batch))
    before = [variable.shape for variable in variables_of(model)]
    trace_step(model, model.train_step, batch, Cut(4, 4, ordered=False))
    assert [variable.shape for variable in variables_of(model)] == before

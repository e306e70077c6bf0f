"""Constants that differ within a family become arguments of one program, without changing a bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasweep.workers.trainer.graph.graphs import Graph, Kinds, Loops, Material
from kerasweep.workers.trainer.graph.lifting import Example, differing, explain
from kerasweep.workers.trainer.graph.sharing import same_bits
from kerasweep.workers.trainer.graph.stepping import Cut
from kerasweep.workers.trainer.pack import programs
from kerasweep.workers.trainer.pack.programs import Programs
from kerasweep.workers.trainer.state.checkpoint import build_optimizer

pytestmark = pytest.mark.tf

ROWS, BATCH = 40, 16
Values = tuple[float, float, float]


class Penalised(keras.Model):
    """Has its own number in its step."""

    def __init__(self, penalty: float) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(3, activation="softmax")
        self.penalty = penalty

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted) + self.penalty * tf.reduce_sum(predicted**2)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return self.compute_metrics(x, y, predicted)


def dense(values: Values, units: int = 8) -> keras.Model:
    rate, momentum, penalty = values
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu", kernel_regularizer=keras.regularizers.L2(penalty)),
            keras.layers.Dropout(rate),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    return compiled(model, keras.optimizers.SGD(0.1, momentum=momentum))


def smooth(values: Values) -> keras.Model:
    rate, smoothing, decay = values
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.GaussianNoise(rate), keras.layers.Dense(3, activation="softmax")]
    )
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    return compiled(model, keras.optimizers.AdamW(0.01, weight_decay=decay), loss)


def own_step(values: Values) -> keras.Model:
    model = Penalised(values[0])
    model(np.zeros((1, 4), np.float32))
    return compiled(model, keras.optimizers.SGD(0.1, momentum=values[1]))


class Either(keras.layers.Layer):
    """Has a number in both branches of a condition."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def call(self, inputs: Any) -> Any:
        return tf.cond(tf.reduce_mean(inputs) > 0, lambda: inputs * self.by, lambda: inputs + self.by)


def bent(values: Values) -> keras.Model:
    slope, rate, momentum = values
    return through([keras.layers.LeakyReLU(negative_slope=slope), keras.layers.Dropout(rate)], momentum)


def branching(values: Values) -> keras.Model:
    by, rate, momentum = values
    return through([Either(by), keras.layers.Dropout(rate)], momentum)


def half(values: Values) -> keras.Model:
    rate, _, momentum = values
    return through([keras.layers.Dropout(rate, dtype="bfloat16")], momentum)


def through(layers: list[keras.layers.Layer], momentum: float) -> keras.Model:
    ends = keras.layers.Dense(8), keras.layers.Dense(3, activation="softmax")
    model = keras.Sequential([keras.Input((4,)), ends[0], *layers, ends[1]])
    return compiled(model, keras.optimizers.SGD(0.1, momentum=momentum))


def compiled(
    model: keras.Model, optimizer: Any, loss: Any = "sparse_categorical_crossentropy"
) -> keras.Model:
    model.compile(optimizer, loss)
    build_optimizer(model)
    return model


def material(model: keras.Model, one_hot: bool) -> Material:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(ROWS, 4)).astype("float32"), rng.integers(0, 3, ROWS)
    labels = np.eye(3, dtype="float32")[y] if one_hot else y
    data = tf.convert_to_tensor(x), tf.convert_to_tensor(labels)
    cuts = Cut(ROWS, BATCH, ordered=True), Cut(ROWS, BATCH, ordered=False)
    return Material(model, lambda: None, lambda: None, data, cuts[0], data, cuts[1])


class Plain:
    def wants_xla(self, graph: Graph, material: Material) -> bool:
        return False

    def __call__(self, graph: Graph, material: Material) -> Loops:
        return graph.loops(False, material)


def train(
    shared: Programs, build: Callable[[Values], keras.Model], values: Values
) -> tuple[Any, list[bytes]]:
    """Train one model for two epochs; return its program and the bytes of its variables."""
    keras.utils.set_random_seed(3)
    model = build(values)
    made = material(model, build is smooth)
    bound = shared.bind(made, Plain())
    assert bound.test is not None
    for _ in range(2):
        bound.train.run(made.train, tf.constant(np.arange(ROWS)), 0, made.train_cut.steps)
        bound.test.run(made.validation, None, 0, 3)
    return bound, [one.numpy().tobytes() for one in [*model.variables, *model.optimizer.variables]]


@pytest.mark.parametrize("build", [dense, pytest.param(smooth, marks=pytest.mark.thorough), own_step])
def test_a_family_shares_one_program_with_the_bits_of_programs_of_their_own(
    build: Callable[[Values], keras.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[Values] = [
        (0.3, 0.9, 1e-3), (0.21, 0.83, 3e-4), (0.47, 0.71, 2e-3), (0.13, 0.66, 7e-5), (0.3, 0.9, 1e-3)
    ]  # fmt: skip
    traced: list[Material] = []
    trace = programs._trace

    def counted(one: Material) -> Any:
        traced.append(one)
        return trace(one)

    monkeypatch.setattr(programs, "_trace", counted)
    shared = Programs(1 << 30, Kinds())
    together = [train(shared, build, one) for one in values]
    traces = len(traced)
    exact = {one: train(Programs(1 << 30, Kinds()), build, one)[1] for one in sorted(set(values))}
    assert [bits for _, bits in together] == [exact[one] for one in values]
    loops = [bound.train.loop for bound, _ in together]
    assert loops[1] is loops[2] is loops[3]
    assert loops[1] is not loops[0]  # the first one knew of no other
    if build is not own_step:  # whose constants are only known from its traces
        assert traces == 2


@pytest.mark.parametrize("build", [bent, branching, half])
def test_numbers_beside_the_constants_are_each_trials_own(build: Callable[[Values], keras.Model]) -> None:
    """Attributes of operations, constants within functions that these call, and precisions not NumPy's."""
    shared = Programs(1 << 30, Kinds())
    for slope, rate, momentum in [(0.3, 0.1, 0.9), (0.3, 0.2, 0.8), (0.3, 0.45, 0.7), (0.1, 0.35, 0.6)]:
        values = slope, rate, momentum
        assert train(shared, build, values)[1] == train(Programs(1 << 30, Kinds()), build, values)[1], values


def test_families_that_differ_in_sizes_alone_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bool] = []

    def counted(*ways: Any) -> bool:
        compared.append(same_bits(*ways))
        return compared[-1]

    monkeypatch.setattr(programs, "same_bits", counted)
    shared, values = Programs(1 << 30, Kinds()), [(0.3, 0.9, 1e-3), (0.21, 0.83, 3e-4)]
    for units in (7, 5):
        build = partial(dense, units=units)
        together = [train(shared, build, one)[1] for one in values]
        assert together[1] == train(Programs(1 << 30, Kinds()), build, values[1])[1]
    assert compared == [True]


def test_a_constant_that_no_value_explains_is_not_guessed() -> None:
    def example(rate: float, constant: float) -> Example:
        return Example((rate, 0.5), (np.asarray(constant, "float32"),))

    known = [example(0.2, 0.8), example(0.3, 0.7)]
    assert differing(known) == (0,)
    [found] = explain(known, (0.4, 0.5)) or ()
    assert found == np.float32(0.6)
    assert explain(known, (0.4, 0.6)) is None, "the second number never varied"
    assert explain(known[:1], (0.4, 0.5)) is None, "one trace explains nothing"
    assert explain([example(0.2, 0.37), example(0.3, 0.027)], (0.4, 0.5)) is None


def test_forms_that_the_traces_cannot_tell_apart_are_not_chosen_between() -> None:
    known = [
        Example((rate, other), (np.asarray(rate, "float32"),)) for rate, other in ((0.5, 0.5), (0.25, 0.75))
    ]
    assert explain(known, (0.4, 0.8)) is None  # the first number, or one minus the second
    [found] = explain(known, (0.4, 0.6)) or ()
    assert found == np.float32(0.4)

"""What XLA does not pay for in one graph is not tried in other graphs of the same operations."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasweep.workers.trainer.pack.graphs import Family, Graph, Kinds, TracedSteps
from kerasweep.workers.trainer.pack.stepping import Cut, trace_step
from kerasweep.workers.trainer.pack.xla_choice import Plan, Stopwatch, XlaChoice

pytestmark = pytest.mark.tf


def graph_of(name: str, *units: int, activation: str = "relu") -> Graph:
    hidden = [keras.layers.Dense(count, activation=activation) for count in units]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    graph = Graph(name, Family(name))
    data = tf.constant(np.zeros((8, 4), np.float32))
    step = trace_step(
        model, lambda batch: {"out": model(batch, training=True)}, data, Cut(8, 8, ordered=False)
    )
    graph.steps = TracedSteps(step, None)
    return graph


def test_sizes_and_layers_do_not_make_a_kind_and_operations_do() -> None:
    kinds = Kinds()
    first = kinds.of(graph_of("a", 3))
    assert kinds.of(graph_of("b", 5)) is first
    assert kinds.of(graph_of("c", 5, 7)) is first
    assert kinds.of(graph_of("d", 3, activation="tanh")) is not first


@pytest.mark.parametrize("on_record", [False, True])
def test_a_kind_that_xla_refused_is_not_tried_again(on_record: bool) -> None:
    graph, kinds, made = graph_of("a", 3), Kinds(), list[tuple[str, bool, str]]()
    kind = kinds.of(graph)
    kind.spoiled = not on_record
    records = {f"xla of a kind:{kind.key}": False} if on_record else {}

    def decide(key: str, value: bool, reason: str) -> bool:
        made.append((key, value, reason))
        return value

    plan = Plan(10_000, 8, lambda enough, wait: 8)
    material: Any = SimpleNamespace(wait=lambda: None)  # nothing to run: a trial of XLA would fail
    assert XlaChoice("auto", records.get, decide, plan, kinds).wants_xla(graph, material) is False
    [(key, value, reason)] = made
    assert (key, value) == ("xla:a", False)
    assert "not tried again" in reason


def test_a_moment_without_a_core_does_not_decide() -> None:
    stalls = iter([0.2])

    def run(steps: int) -> None:
        time.sleep(next(stalls, 0.0) + 0.0001 * steps)

    assert Stopwatch(run, most=256).per_step() < 0.05

"""Under XLA on a CPU a step's random numbers come from ThreeFry, and depend on the seed's state alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasweep.workers.trainer.graph.stepping import Cut, Loop, Step, trace_step, with_fast_draws

pytestmark = pytest.mark.tf

ROWS = np.ones((8, 16), np.float32)
CUT = Cut(8, 8, ordered=False)


def traced(rate: float) -> tuple[Step, keras.Model]:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dropout(rate, seed=3)])
    model.compile("sgd", "mse")
    return trace_step(
        model, lambda batch: {"out": model(batch, training=True)}, tf.constant(ROWS), CUT
    ), model


def masks(step: Step, xla: bool) -> Any:
    data = tf.constant(ROWS)
    return Loop(step, data, CUT, xla).run(step.captures, data, None, 0, 1)["out"].numpy()


def test_a_step_without_draws_stays_as_it_is() -> None:
    step, _ = traced(0.0)
    assert with_fast_draws(step) is step


def test_draws_follow_the_state_and_drop_the_share_that_was_asked_for() -> None:
    step, model = traced(0.5)
    fast = with_fast_draws(step)
    assert fast is not step
    [state] = [variable for variable in model.variables if "seed" in variable.path]
    start = state.numpy()
    first, second = masks(fast, xla=True), masks(fast, xla=True)
    state.assign(start)
    again = masks(fast, xla=True)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 0.25 < np.mean(first == 0.0) < 0.75


def test_another_seed_draws_other_numbers() -> None:
    step, model = traced(0.5)
    fast = with_fast_draws(step)
    first = masks(fast, xla=True)
    [state] = [variable for variable in model.variables if "seed" in variable.path]
    state.assign(np.asarray([1234, 0], state.numpy().dtype))
    assert not np.array_equal(first, masks(fast, xla=True))

"""A worker's steps per second, counted over trainers that come and go."""

from __future__ import annotations

import pytest

from kerasweep.workers.autoscale import Sample, StepCount
from kerasweep.workers.step_rate import StepRate


def sample(at_s: float, *made: int) -> Sample:
    return Sample(at_s, tuple(StepCount(steps, at_s) for steps in made), 0.0, False, frozenset())


def test_steps_are_counted_over_trainers_that_start_again() -> None:
    pace = StepRate()
    pace.observe(sample(0.0, 100))
    assert pace.steps_per_s == 0.0
    pace.observe(sample(10.0, 150, 30))
    assert pace.steps_per_s == pytest.approx(8.0)
    pace.observe(sample(20.0, 20, 30))  # the first one was restarted
    assert (pace.steps, pace.steps_per_s) == (200, pytest.approx(2.0))
    pace.observe(sample(30.0, 25))
    assert pace.steps == 205

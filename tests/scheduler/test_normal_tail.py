"""The faster formula in Optuna's place: the same bits, so the same suggestions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers._tpe import _truncnorm

from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import FailureClass, TrialState
from kerasweep.scheduler.samplers import Observation, optuna_study, sampler_for
from kerasweep.scheduler.samplers.normal_tail import Floats, log_ndtr, quicken

SPEC = parse_spec(
    {
        "name": "a",
        "job": "train.py",
        "metric": {"name": "loss", "goal": "minimize"},
        "method": {"name": "tpe", "startup_trials": 5, "parallel": 1},
        "parameters": {
            "rate": {"distribution": "log_uniform", "min": 1e-4, "max": 1.0},
            "units": {"distribution": "int_log_uniform", "min": 16, "max": 256},
            "step": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
            "kind": {"values": ["relu", "tanh"]},
            "slope": {"distribution": "uniform", "min": 0.0, "max": 1.0, "when": {"kind": ["relu"]}},
        },
        "training": {"epochs": 3},
        "seed": 7,
        "budget": {"max_trials": 100},
    }
)


def optunas_own(a: Floats) -> Floats:
    return np.asarray(np.frompyfunc(_truncnorm._log_ndtr_single, 1, 1)(a)).astype(float)


@given(st.lists(st.floats(-1e100, 1e100) | st.floats(-130, 20) | st.floats(-21, 7), min_size=1))
def test_every_bit_is_the_one_that_optuna_calculates(numbers: list[float]) -> None:
    a = np.array([numbers, numbers[::-1]])
    assert log_ndtr(a).tobytes() == optunas_own(a).tobytes()


def test_the_installed_optuna_uses_it() -> None:
    assert quicken()
    assert _truncnorm._log_ndtr is log_ndtr


def test_another_formula_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(a: Floats) -> Floats:
        return np.asarray(np.nextafter(optunas_own(a), 0.0))

    monkeypatch.setattr(_truncnorm, "_log_ndtr", other)
    assert not quicken()
    assert _truncnorm._log_ndtr is other


def test_a_missing_function_is_left_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_truncnorm, "_log_ndtr")
    assert not quicken()
    assert not hasattr(_truncnorm, "_log_ndtr")


def suggested(count: int) -> list[Params]:
    """Run a sweep in which some trials diverge and some fail."""
    sampler, trials = sampler_for(SPEC), list[Observation]()
    while len(trials) < count:
        params = sampler.suggest(trials, 1)[0].params
        trials.append(ended(len(trials), params))
    return [trial.params for trial in trials]


def ended(number: int, params: Params) -> Observation:
    if number % 7 == 3:
        failure = FailureClass.DIVERGED if number % 2 else FailureClass.USER
        return Observation(number, params, TrialState.FAILED, None, failure)
    values: dict[str, Any] = dict(params)
    loss = (values["rate"] - 0.03) ** 2 + abs(values["units"] - 100) / 100 + values["step"]
    return Observation(number, params, TrialState.COMPLETED, loss + values.get("slope", 0.2))


def test_the_suggestions_are_those_of_optuna_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    faster = suggested(30)
    monkeypatch.setattr(_truncnorm, "_log_ndtr", optunas_own)
    monkeypatch.setattr(optuna_study, "quicken", lambda: False)
    assert suggested(30) == faster


#: Trials 5, 11, 17 and so on.
PINNED: list[Params] = [
    {
        "rate": 0.14121575465346833,
        "units": 156,
        "step": 0.75,
        "kind": "relu",
        "slope": 0.004368194355300448,
    },
    {"rate": 0.6129878861805527, "units": 204, "step": 1.0, "kind": "tanh"},
    {"rate": 0.03326001124868604, "units": 114, "step": 0.25, "kind": "tanh"},
    {"rate": 0.03596154464688222, "units": 83, "step": 0.0, "kind": "tanh"},
    {"rate": 0.006899571102809543, "units": 110, "step": 0.25, "kind": "tanh"},
]


def test_the_suggestions_are_those_of_earlier_releases() -> None:
    # Another processor may round logarithms differently. If anything else differs, raise samplers.VERSION.
    for params, pinned in zip(suggested(30)[5::6], PINNED, strict=True):
        close = {name: pytest.approx(value, rel=1e-9) for name, value in pinned.items() if name != "kind"}
        assert params == {**pinned, **close}

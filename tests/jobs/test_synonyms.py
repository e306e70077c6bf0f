"""Words of other tools are answered with their equivalents here."""

from __future__ import annotations

from typing import Any

import pytest

from kerasweep.jobs.errors import SpecError
from kerasweep.jobs.sweepfile.spec import SweepSpec, parse_spec
from kerasweep.jobs.sweepfile.synonyms import SWEEP, TRAINING
from kerasweep.jobs.sweepfile.training import Training

SWEEP_FILE: dict[str, Any] = {
    "name": "a",
    "job": "train.py",
    "metric": {"name": "loss", "goal": "minimize"},
    "method": "random",
    "parameters": {"rate": {"values": [1, 2]}},
    "training": {"epochs": 1},
    "budget": {"max_trials": 1},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "bayes"}, "did you mean 'tpe'"),
        ({"method": "grid_search"}, "did you mean 'grid'"),
        ({"method": "hyperband"}, "halving"),
        ({"method": "asha"}, "halving"),
        ({"n_trials": 10}, "max_trials"),
        ({"search_space": {}}, "did you mean 'parameters'"),
        ({"metric": {"name": "loss", "direction": "minimize"}}, "did you mean 'goal'"),
        ({"parameters": {"rate": {"low": 0.1, "high": 1}}}, "min, max"),
        ({"parameters": {"rate": {"distribution": "uniform", "low": 0.1, "high": 1}}}, "did you mean 'min'"),
        ({"parameters": {"rate": {"choices": [1, 2]}}}, "did you mean 'values'"),
        ({"parameters": {"rate": {"distribution": "loguniform", "min": 1, "max": 2}}}, "'log_uniform'"),
        ({"parameters": {"rate": {"distribution": "randint", "min": 1, "max": 2}}}, "'int_uniform'"),
        ({"parameters": {"rate": {"distribution": "quniform", "min": 1, "max": 2}}}, "'q_uniform'"),
        ({"parameters": {"rate": {"distribution": "choice", "values": [1]}}}, "{values: [...]}"),
        ({"parameters": {"rate": {"distribution": "normal", "mu": 1}}}, "have bounds here"),
        ({"training": {"max_epochs": 1}}, "did you mean 'epochs'"),
        ({"training": {"epochs": 1, "batchsize": 1}}, "did you mean 'batch_size'"),
        ({"training": {"epochs": 1, "lr": 1}}, "build_model"),
        ({"training": {"epochs": 1, "steps_per_execution": 2}}, "model.compile"),
        ({"training": {"epochs": 1, "validation_split": 0.2}}, "load_data"),
        ({"training": {"epochs": 1, "validation_freq": 2}}, "every epoch"),
        ({"training": {"epochs": 1, "verbose": 0}}, "kerasweep watch"),
        ({"training": {"epochs": 1, "initial_epoch": 1}}, "first epoch"),
        ({"training": {"epochs": 1, "sample_weight": []}}, "third value"),
    ],
)
def test_a_word_of_another_tool_is_translated(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(SWEEP_FILE | changes)
    assert told in str(caught.value)


def test_no_valid_word_is_translated() -> None:
    assert not set(TRAINING) & set(Training.model_fields)
    assert not set(SWEEP) & set(SweepSpec.model_fields)

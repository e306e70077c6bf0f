"""The declared training block: schedules as arithmetic, callbacks under Keras' names, swept values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kerasweep.jobs.sweepfile import template
from kerasweep.jobs.sweepfile.block import rule_broken
from kerasweep.jobs.sweepfile.rules import RuleError
from kerasweep.jobs.sweepfile.schedule import Schedule
from kerasweep.jobs.sweepfile.training import Training


def factors(schedule: Any, epochs: int) -> list[float]:
    read = Schedule.model_validate(schedule)
    return [read.factor(epoch, epochs) for epoch in range(1, epochs + 1)]


def refusal(model: type[Training] | type[Schedule], raw: Any) -> RuleError:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(raw)
    return rule_broken(caught.value)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ({"step_decay": {"every": 2, "factor": 0.1}}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"piecewise": {"boundaries": [1, 4], "factors": [1, 0.5, 0.2]}}, [1, 0.5, 0.5, 0.5, 0.2, 0.2]),
        ({"exponential": {"rate": 0.5}}, [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ({"exponential": {"rate": 0.25, "every": 2}}, [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ("cosine", [1, 0.933013, 0.75, 0.5, 0.25, 0.066987]),
        ({"cosine": {"min_factor": 0.5}}, [1, 0.966506, 0.875, 0.75, 0.625, 0.533494]),
        ({"warmup_cosine": {"warmup_epochs": 2}}, [1 / 3, 2 / 3, 1, 0.853553, 0.5, 0.146447]),
        ({"warmup_cosine": {"warmup_epochs": 9}}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    ],
)
def test_a_schedule_gives_each_epoch_its_factor(schedule: Any, expected: list[float]) -> None:
    assert factors(schedule, 6) == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 200), st.floats(0, 0.99))
def test_a_cosine_falls_from_one_and_stays_above_its_floor(epochs: int, floor: float) -> None:
    falling = factors({"cosine": {"min_factor": floor}}, epochs)
    assert falling[0] == 1
    assert falling == sorted(falling, reverse=True)
    assert floor < falling[-1]


@given(st.integers(1, 100))
def test_a_warmup_of_no_epochs_is_the_cosine(epochs: int) -> None:
    assert factors({"warmup_cosine": {"warmup_epochs": 0}}, epochs) == factors("cosine", epochs)


@given(st.integers(1, 50), st.integers(1, 49))
def test_a_warmup_rises_to_one_and_then_falls(epochs: int, warmup: int) -> None:
    course = factors({"warmup_cosine": {"warmup_epochs": warmup}}, epochs)
    assert course[:warmup] == sorted(course[:warmup])
    assert all(0 < factor < 1 for factor in course[:warmup])
    assert course[warmup:] == sorted(course[warmup:], reverse=True)
    assert course[warmup : warmup + 1] in ([], [1])


@given(st.floats(1e-300, 1, exclude_min=True), st.integers(1, 10_000))
def test_no_decay_overflows(rate: float, epoch: int) -> None:
    for schedule in ({"exponential": {"rate": rate}}, {"step_decay": {"every": 1, "factor": rate}}):
        factor = Schedule.model_validate(schedule).factor(epoch, 10_000)
        assert math.isfinite(factor)
        assert 0 <= factor <= 1


@pytest.mark.parametrize(
    ("raw", "rule", "remedy"),
    [
        ("cosin", "unknown schedule 'cosin'", "did you mean 'cosine'?"),
        ({}, "a schedule has exactly one form, got none", "keep one of"),
        ({"cosine": {}, "constant": {}}, "a schedule has exactly one form, got constant, cosine", "keep"),
        ({"cosine": {"min_facter": 0.1}}, "unknown key 'min_facter'", "did you mean 'min_factor'?"),
        ({"step_decay": {"every": 10}}, "the key 'factor' is missing", "add it, such as `factor: 0.1`"),
        ({"step_decay": {"every": 0, "factor": 0.1}}, "must be at least 1, got 0", "write a larger number"),
        ({"exponential": {"rate": 1.1}}, "must be at most 1.0, got 1.1", "write a smaller number"),
        ({"piecewise": {"boundaries": [5, 5], "factors": [1, 0.1, 0.01]}}, "boundaries must increase", ""),
        ({"piecewise": {"boundaries": [5], "factors": [1, 0.1, 0.01]}}, "factors must be one more", ""),
        ([1, 2], "must be a mapping of keys, got [1, 2]", "known here: constant, step_decay"),
    ],
)  # fmt: skip
def test_an_invalid_schedule_is_refused(raw: Any, rule: str, remedy: str) -> None:
    found = refusal(Schedule, raw)
    assert found.rule.startswith(rule)
    assert found.remedy.startswith(remedy)


def test_the_minimal_block_has_keras_defaults() -> None:
    least = Training.model_validate({"epochs": 3})
    assert (least.batch_size, least.shuffle, least.xla) == (32, True, "auto")
    assert least.learning_rate_schedule.factor(2, 3) == 1
    assert least.early_stopping is None
    assert least.reduce_on_plateau is None
    assert least.tensorboard is None


def test_switches_and_class_weights_are_read_as_written() -> None:
    training = Training.model_validate(
        {"epochs": 3, "tensorboard": True, "xla": False, "class_weight": {"0": 1, "1": 2.5}}
    )
    assert training.tensorboard is not None
    assert not training.tensorboard.histograms
    assert training.xla is False
    assert training.class_weight == {0: 1.0, 1: 2.5}
    assert Training.model_validate({"epochs": 3, "tensorboard": False}).tensorboard is None


@given(st.integers(1, 10**6).map(float))
def test_a_whole_number_may_be_written_as_a_float(epochs: float) -> None:
    assert type(Training.model_validate({"epochs": epochs}).epochs) is int


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ({"batch_size": 8}, "the key 'epochs' is missing"),
        ({"epochs": 0}, "must be at least 1, got 0"),
        ({"epochs": True}, "must be a whole number, got true"),
        ({"epochs": 3, "xla": 1}, "must be auto, true or false, got 1"),
        ({"epochs": 3, "shuffle": "yes"}, "must be true or false, got 'yes'"),
        ({"epochs": 3, "early_stopping": {"pateince": 3}}, "unknown key 'pateince'"),
        ({"epochs": 3, "early_stopping": {"mode": 1}}, "must be one of 'auto', 'min' or 'max', got 1"),
        ({"epochs": 3, "reduce_on_plateau": {"factor": 1}}, "must be below 1.0, got 1"),
        ({"epochs": 3, "class_weight": {"cat": 1}}, "keys must be whole numbers, got 'cat'"),
        ({"epochs": 3, "tensorboard": {"histogram": True}}, "unknown key 'histogram'"),
    ],
)  # fmt: skip
def test_an_invalid_block_is_refused(raw: Any, rule: str) -> None:
    assert refusal(Training, raw).rule == rule


SWEPT: dict[str, Any] = {
    "epochs": 30,
    "batch_size": {"values": [16, 32]},
    "early_stopping": {"patience": {"distribution": "int_uniform", "min": 1, "max": 9}},
    "learning_rate_schedule": {"step_decay": {"every": 10, "factor": {"values": [0.1, 0.5]}}},
    "class_weight": {"0": 1.0, "1": {"distribution": "uniform", "min": 1.0, "max": 5.0}},
}


def test_distributions_are_found_by_dotted_path_and_filled_in() -> None:
    assert list(template.swept(SWEPT)) == [
        "training.batch_size",
        "training.early_stopping.patience",
        "training.learning_rate_schedule.step_decay.factor",
        "training.class_weight.1",
    ]
    training = template.fill(
        SWEPT,
        {
            "learning_rate": 0.1,
            "training.batch_size": 32,
            "training.early_stopping.patience": 4,
            "training.learning_rate_schedule.step_decay.factor": 0.5,
            "training.class_weight.1": 2.0,
        },
    )
    assert (training.epochs, training.batch_size, training.class_weight) == (30, 32, {0: 1.0, 1: 2.0})
    assert training.early_stopping is not None
    assert training.early_stopping.patience == 4
    assert training.learning_rate_schedule.factor(11, 30) == 0.5


def test_a_conditional_value_that_a_trial_lacks_keeps_its_default() -> None:
    raw = {"epochs": 5, "batch_size": {"values": [8], "when": {"units": [50]}}}
    assert template.fill(raw, {"units": 100}).batch_size == 32
    assert template.fill(raw, {"units": 50, "training.batch_size": 8}).batch_size == 8


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ({"epochs": {"values": [3, 0]}}, "must be at least 1, got 0"),
        ({"epochs": {"distribution": "int_uniform", "min": 0, "max": 8}}, "must be at least 1, got 0"),
        ({"epochs": {"distribution": "uniform", "min": 1, "max": 8.5}}, "must be a whole number, got 8.5"),
        ({"epochs": 3, "learning_rate_schedule": {"values": ["constant", "cosin"]}}, "unknown schedule"),
        ({"epochs": {"values": [3], "when": {"units": [50]}}}, "`when` is allowed only for optional"),
        (
            {
                "epochs": 3,
                "learning_rate_schedule": {
                    "piecewise": {"boundaries": {"values": [[2], [2, 4]]}, "factors": {"values": [[1, 0.1]]}}
                },
            },
            "factors must be one more than boundaries",
        ),
    ],
)  # fmt: skip
def test_every_possible_value_is_checked_in_its_place(raw: Any, rule: str) -> None:
    with pytest.raises(RuleError) as caught:
        template.check(raw, template.swept(raw))
    assert caught.value.rule.startswith(rule)
    assert caught.value.at[0] == "training"

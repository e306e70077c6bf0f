"""A sweep's decisions from its records alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from recorded import FakeClock, a_sweep, claim, epoch, finish, result

from kerasweep.jobs.store.models import Progress, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Answer, Failure, FailureClass, SweepState, TrialState
from kerasweep.scheduler.deciding.advance import advance


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def records(tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    made = Records(f"sqlite:///{tmp_path / 'store.db'}", clock=clock)
    yield made
    made.close()


def submitted(records: Records, max_trials: int = 5, max_hours: float | None = None) -> SweepRecord:
    made = a_sweep()
    budget = made.spec.budget.model_copy(update={"max_trials": max_trials, "max_hours": max_hours})
    spec = made.spec.model_copy(update={"budget": budget})
    sweep = replace(made, spec=spec, max_trials=max_trials)
    records.create_sweep(sweep)
    advance(records, sweep.id)
    return sweep


def fail(records: Records, trial: int, message: str, cls: FailureClass = FailureClass.USER) -> None:
    records.fail(claim(records, trial=trial).key, Failure(cls, message))


def test_advancing_twice_decides_once(records: Records) -> None:
    sweep = submitted(records)
    advance(records, sweep.id)
    assert records.counts(sweep.id) == {TrialState.QUEUED: 5}


def test_a_sweep_is_completed_with_its_last_trial(records: Records) -> None:
    sweep = submitted(records, max_trials=2)
    finish(records, 0, 0.5)
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.RUNNING
    finish(records, 1, 0.4)
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.COMPLETED


def test_the_same_failure_of_the_first_trials_halts(records: Records) -> None:
    sweep = submitted(records)
    rule = "the sweep's metric must be one that the model reports, got 'val_los'"
    fail(records, 0, f"{rule}; it reports loss, val_loss")
    fail(records, 3, f"{rule}; it reports learning_rate, loss, val_loss")
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.RUNNING
    fail(records, 1, f"{rule}; it reports loss, val_loss")
    advance(records, sweep.id)
    halted = records.sweep(sweep.id)
    assert halted.state is SweepState.FAILED
    assert halted.message == f"{rule}; it reports loss, val_loss"
    assert records.counts(sweep.id) == {TrialState.FAILED: 3, TrialState.CANCELLED: 2}


@pytest.mark.parametrize(
    ("third", "cls"),
    [("KeyError: 'b' (train.py:3)", FailureClass.USER), ("loss is nan", FailureClass.DIVERGED)],
)
def test_other_failures_do_not_halt(records: Records, third: str, cls: FailureClass) -> None:
    sweep = submitted(records)
    fail(records, 0, "KeyError: 'a' (train.py:3)")
    fail(records, 1, "KeyError: 'a' (train.py:3)")
    fail(records, 2, third, cls)
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.RUNNING


def test_a_spent_budget_of_hours_ends_with_what_was_reached(records: Records, clock: FakeClock) -> None:
    sweep = submitted(records, max_hours=1.0)
    running = claim(records, trial=0)
    clock.pass_s(3601.0)
    advance(records, sweep.id)
    assert records.counts(sweep.id) == {TrialState.RUNNING: 1, TrialState.CANCELLED: 4}
    answers = records.record([Progress(running.key, (epoch(1),))], 30.0)
    assert answers[running.key] is Answer.STOP
    records.finish(running.key, result(state=TrialState.STOPPED))
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.COMPLETED


def test_epochs_that_come_with_a_failure_are_counted(records: Records) -> None:
    submitted(records)
    key = claim(records, trial=0).key
    records.fail(
        key, Failure(FailureClass.DIVERGED, "loss is nan"), progress=Progress(key, (epoch(1), epoch(2)))
    )
    assert records.trials(key.sweep)[0].epochs == 2

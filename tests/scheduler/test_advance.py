"""A sweep's decisions, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from recorded import FakeClock, a_sweep, claim, epoch, finish, result

from kerasweep.jobs.store.models import NewTrial, Progress, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Answer, Failure, FailureClass, SweepState, TrialState
from kerasweep.scheduler.deciding import remembering
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.samplers import Observation, Suggestion


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
    advance(records, sweep.id)
    records.finish(running.key, result(state=TrialState.STOPPED))
    advance(records, sweep.id)
    ended = records.sweep(sweep.id)
    assert ended.state is SweepState.COMPLETED
    told = "ended early: budget.max_hours = 1.0 is spent; of 5 planned trials, 1 reached a value"
    assert ended.message == told
    assert [one.event for one in records.journal(sweep.id)].count("hours spent") == 1


def test_hours_that_are_spent_when_all_has_ended_cut_nothing(records: Records, clock: FakeClock) -> None:
    sweep = submitted(records, max_trials=1, max_hours=1.0)
    running = claim(records, trial=0)
    records.finish(running.key, result())
    clock.pass_s(3601.0)
    advance(records, sweep.id)
    ended = records.sweep(sweep.id)
    assert (ended.state, ended.message) == (SweepState.COMPLETED, "")


def test_epochs_that_come_with_a_failure_are_counted(records: Records) -> None:
    submitted(records)
    key = claim(records, trial=0).key
    records.fail(
        key, Failure(FailureClass.DIVERGED, "loss is nan"), progress=Progress(key, (epoch(1), epoch(2)))
    )
    assert records.trials(key.sweep)[0].epochs == 2


class Thinker:
    """A search method that learns from all earlier trials, one at a time, and is interrupted while it
    computes.
    """

    def __init__(self, disturb: Callable[[int], None]) -> None:
        self.disturb = disturb
        self.thoughts = 0

    def suggest(
        self, trials: Sequence[Observation], wanted: int, learned: int | None, earlier: Sequence[Observation]
    ) -> list[Suggestion]:
        self.thoughts += 1
        self.disturb(self.thoughts)
        if not all(trial.state.final for trial in trials):
            return []
        seen = sum(trial.value or 0.0 for trial in trials)
        return [Suggestion({"learning_rate": 0.01}, f"after a sum of {seen:g}")]


def think(monkeypatch: pytest.MonkeyPatch, disturb: Callable[[int], None]) -> Thinker:
    thinker = Thinker(disturb)
    monkeypatch.setattr(remembering, "sampler_for", lambda spec: thinker)
    monkeypatch.setattr(remembering, "_memories", WeakKeyDictionary())
    return thinker


def suggested(records: Records, sweep: str) -> list[str]:
    return [entry.reason for entry in records.journal(sweep) if entry.event == "suggested"]


def test_a_search_method_thinks_outside_the_lock(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent writes would have to wait for the lock, or PostgreSQL would end such a long transaction."""
    think(monkeypatch, lambda _: records.seen("w1", {}))
    sweep = submitted(records)
    assert records.counts(sweep.id) == {TrialState.QUEUED: 1}


def test_two_that_think_at_once_add_a_trial_once(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    thinker = think(monkeypatch, lambda thought: advance(records, "abcd1234") if thought == 1 else None)
    sweep = submitted(records)
    assert records.counts(sweep.id) == {TrialState.QUEUED: 1}
    assert thinker.thoughts == 3, "the first thinks again, on the trial that the second added"


def test_a_suggestion_is_dropped_when_a_result_under_it_is_taken_back(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturb(thought: int) -> None:
        if thought == 1:
            with records.deciding("abcd1234") as decision:
                decision.move(TrialState.QUEUED, "retry", 0)
            finish(records, 0, 0.25)

    sweep = submitted(records, max_trials=1)
    fail(records, 0, "loss is nan", FailureClass.DIVERGED)
    with records.deciding(sweep.id) as decision:
        decision.set_max_trials(2)
    think(monkeypatch, disturb)
    advance(records, sweep.id)
    assert suggested(records, sweep.id)[-1] == "after a sum of 0.25"


def test_a_suggestion_outlasts_a_trial_that_ends_meanwhile(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bold(Thinker):
        def suggest(self, trials: Sequence[Observation], *rest: Any) -> list[Suggestion]:
            super().suggest(trials, *rest)
            return [Suggestion({"learning_rate": 0.01}, "whatever the others do")]

    sweep = submitted(records, max_trials=2)
    with records.deciding(sweep.id) as decision:
        decision.set_max_trials(3)
    thinker = Bold(lambda thought: finish(records, 1, 0.5) if thought == 1 else None)
    monkeypatch.setattr(remembering, "sampler_for", lambda spec: thinker)
    monkeypatch.setattr(remembering, "_memories", WeakKeyDictionary())
    advance(records, sweep.id)
    assert (thinker.thoughts, len(records.trials(sweep.id))) == (1, 3)


def test_a_trial_that_ends_meanwhile_does_not_end_the_sweep(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = submitted(records, max_trials=1)
    with records.deciding(sweep.id) as decision:
        decision.set_max_trials(2)
    think(monkeypatch, lambda thought: finish(records, 0, 0.5) if thought == 1 else None)
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.RUNNING
    assert suggested(records, sweep.id)[-1] == "after a sum of 0.5"


def test_a_sweep_that_keeps_changing_is_postponed(
    records: Records, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def disturb(_: int) -> None:
        number = len(records.trials("abcd1234"))
        with records.deciding("abcd1234") as decision:
            decision.add_trials([NewTrial(number, {}, number, "by another")])

    thinker = think(monkeypatch, disturb)
    submitted(records, max_trials=99)
    assert 2 <= thinker.thoughts < 10
    assert "changes faster than its search method computes" in caplog.text


def test_a_spent_failure_budget_halts(records: Records) -> None:
    made = a_sweep()
    budget = made.spec.budget.model_copy(update={"max_trials": 6, "max_failed": 1})
    sweep = replace(made, spec=made.spec.model_copy(update={"budget": budget}), max_trials=6)
    records.create_sweep(sweep)
    advance(records, sweep.id)
    finish(records, 0, 0.5)
    fail(records, 1, "KeyError: 'a'")
    fail(records, 2, "loss is nan", FailureClass.DIVERGED)
    advance(records, sweep.id)
    assert records.sweep(sweep.id).state is SweepState.RUNNING
    fail(records, 3, "ValueError: b")
    advance(records, sweep.id)
    halted = records.sweep(sweep.id)
    assert halted.state is SweepState.FAILED
    assert halted.message == "2 trials have failed, budget.max_failed is 1; the last: ValueError: b"
    assert records.counts(sweep.id)[TrialState.CANCELLED] == 2

"""User requests take effect in every store, whatever workers do concurrently."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, add_trials, claim, finish, put_sweep

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.decision import Decision
from kerasweep.jobs.store.models import Progress, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Answer, AttemptKey, Failure, FailureClass, SweepState, TrialKey, TrialState
from kerasweep.scheduler.deciding import control
from kerasweep.scheduler.deciding.advance import advance

SWEEP = "abcd1234"
TRIAL = TrialKey(SWEEP, 0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def records(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'store.db'}" if sqlite else request.getfixturevalue("postgres_url")
    made = Records(url, clock=clock)
    yield made
    made.close()


class Between:
    """Claims a trial right after a decision first touches it, as a worker may."""

    def __init__(self, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records = records
        self.claimer: threading.Thread | None = None
        for name in ("ask", "move"):
            monkeypatch.setattr(Decision, name, self._wrapped(getattr(Decision, name)))

    def _wrapped(self, done: Callable[..., int]) -> Callable[..., int]:
        def first(*args: Any, **kwargs: Any) -> int:
            found = done(*args, **kwargs)
            if self.claimer is None:
                self.claimer = threading.Thread(target=self.records.claim, args=(TRIAL, "w1", LEASE_S))
                self.claimer.start()
                self.claimer.join(0.3)  # in SQLite it waits for the decision to finish
            return found

        return first

    def answer(self) -> Answer | None:
        """Return the answer to the claimer's attempt, None if it got none."""
        assert self.claimer is not None
        self.claimer.join(20)
        if self.records.trial(TRIAL).state is not TrialState.RUNNING:
            return None
        key = AttemptKey(SWEEP, 0, self.records.trial(TRIAL).attempt)
        return self.records.record([Progress(key)], LEASE_S)[key]


@pytest.mark.parametrize(
    ("ask", "state", "answer"),
    [
        (lambda records: control.pause(records, SWEEP, 0), TrialState.PAUSED, Answer.PAUSE),
        (lambda records: control.cancel(records, SWEEP, 0), TrialState.CANCELLED, Answer.CANCEL),
        (lambda records: records.cancel_trial(TRIAL, "revoked"), TrialState.CANCELLED, Answer.CANCEL),
    ],
    ids=["pause", "cancel", "revoke"],
)
def test_a_claim_at_the_same_moment_undoes_nothing(
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Records], object],
    state: TrialState,
    answer: Answer,
) -> None:
    put_sweep(records)
    between = Between(records, monkeypatch)
    ask(records)
    told = between.answer()
    assert told is answer or (told is None and records.trial(TRIAL).state is state)


def test_a_running_trial_is_told(records: Records) -> None:
    put_sweep(records, trials=2)
    key = claim(records).key
    assert control.pause(records, SWEEP, 0) == "trial 0 pauses at its next step"
    assert control.pause(records, SWEEP, 1) == "trial 1 is paused"
    assert records.record([Progress(key)], LEASE_S)[key] is Answer.PAUSE


def test_a_trial_that_was_paused_on_its_own_stays_paused_when_its_sweep_is_resumed(records: Records) -> None:
    put_sweep(records, trials=4)
    running = [claim(records, SWEEP, number).key for number in range(3)]
    control.pause(records, SWEEP, 0)
    records.release(running[0], TrialState.PAUSED, "it was asked to pause")
    control.pause(records, SWEEP)
    records.release(running[1], TrialState.PAUSED, "it was asked to pause")
    records.release(running[2], TrialState.PAUSED, "it was asked to pause")
    assert control.pause(records, SWEEP, 2) == "trial 2 is paused"
    assert "2 trials that were paused on their own stay paused" in control.resume(records, SWEEP)
    states = [one.state for one in records.trials(SWEEP)]
    assert states == [TrialState.PAUSED, TrialState.QUEUED, TrialState.PAUSED, TrialState.QUEUED]
    assert control.resume(records, SWEEP, 2) == "trial 2 is resumed"
    assert control.resume(records, SWEEP).endswith("is resumed")  # it runs, so its paused trials are meant
    assert {one.state for one in records.trials(SWEEP)} == {TrialState.QUEUED}


def timed(records: Records, max_trials: int, max_hours: float | None = None) -> SweepRecord:
    made = a_sweep()
    budget = made.spec.budget.model_copy(update={"max_trials": max_trials, "max_hours": max_hours})
    sweep = replace(made, spec=made.spec.model_copy(update={"budget": budget}), max_trials=max_trials)
    records.create_sweep(sweep)
    advance(records, sweep.id)
    return sweep


def expect_refusal(records: Records, ask: Callable[[], object], *said: str) -> None:
    before = records.sweep(SWEEP), records.trials(SWEEP), records.journal(SWEEP)
    with pytest.raises(InputError) as refused:
        ask()
    assert all(words in str(refused.value) for words in said), refused.value
    advance(records, SWEEP)
    assert (records.sweep(SWEEP), records.trials(SWEEP), records.journal(SWEEP)) == before


def test_spent_hours_leave_nothing_to_extend_or_retry(records: Records, clock: FakeClock) -> None:
    timed(records, 3, max_hours=1.0)
    records.fail(claim(records).key, Failure(FailureClass.DIVERGED, "loss is nan"))
    clock.pass_s(3601.0)
    advance(records, SWEEP)
    assert records.sweep(SWEEP).state.final
    spent = ("budget.max_hours = 1.0 is spent", "Submit it again, with more max_hours")
    expect_refusal(records, lambda: control.extend(records, SWEEP, 9), *spent)
    expect_refusal(records, lambda: control.retry(records, SWEEP), *spent)


def test_a_paused_sweep_whose_hours_are_spent_ends_when_it_is_resumed(
    records: Records, clock: FakeClock
) -> None:
    timed(records, 3, max_hours=1.0)
    control.pause(records, SWEEP)
    clock.pass_s(3601.0)
    assert "ends with what it has, since budget.max_hours" in control.resume(records, SWEEP)
    advance(records, SWEEP)
    assert records.sweep(SWEEP).state is SweepState.CANCELLED


def test_a_halted_sweep_is_not_extended_but_retried_whole(records: Records) -> None:
    timed(records, 5)
    for number in range(3):
        records.fail(claim(records, trial=number).key, Failure(FailureClass.USER, "NameError: kerass"))
    advance(records, SWEEP)
    assert records.sweep(SWEEP).state is SweepState.FAILED
    said = ("would be halted again", "NameError: kerass", "kerasweep retry digits")
    expect_refusal(records, lambda: control.extend(records, SWEEP, 9), *said)
    expect_refusal(records, lambda: control.retry(records, SWEEP, 4), *said)
    assert control.retry(records, SWEEP) == "5 trials queued again"
    advance(records, SWEEP)
    assert records.counts(SWEEP) == {TrialState.QUEUED: 5}


def test_two_that_failed_alike_are_enough_in_a_sweep_of_two(records: Records) -> None:
    timed(records, 2)
    for number in range(2):
        records.fail(claim(records, trial=number).key, Failure(FailureClass.USER, "NameError: kerass"))
    advance(records, SWEEP)
    expect_refusal(records, lambda: control.extend(records, SWEEP, 6), "would be halted again")


def test_a_failed_sweep_whose_trials_failed_otherwise_is_extended(records: Records) -> None:
    timed(records, 2)
    for number in range(2):
        records.fail(claim(records, trial=number).key, Failure(FailureClass.DIVERGED, "loss is nan"))
    advance(records, SWEEP)
    assert records.sweep(SWEEP).state is SweepState.FAILED
    control.extend(records, SWEEP, 4)
    advance(records, SWEEP)
    assert records.counts(SWEEP) == {TrialState.FAILED: 2, TrialState.QUEUED: 2}


def test_a_cancelled_sweep_is_retried_before_it_is_extended(records: Records) -> None:
    timed(records, 3)
    running = claim(records).key
    control.cancel(records, SWEEP)
    said = ("sweep digits is cancelled", "`kerasweep retry digits`")
    expect_refusal(records, lambda: control.extend(records, SWEEP, 9), *said)
    assert records.record([Progress(running)], LEASE_S)[running] is Answer.CANCEL
    records.release(running, TrialState.CANCELLED, "as asked")
    expect_refusal(records, lambda: control.extend(records, SWEEP, 9), *said)
    assert control.retry(records, SWEEP) == "3 trials queued again"
    assert control.extend(records, SWEEP, 9) == "sweep digits may now have 9 trials"


def test_a_sweep_that_runs_again_says_so_and_why(records: Records) -> None:
    timed(records, 1)
    finish(records, 0, 0.5)
    advance(records, SWEEP)
    told = control.extend(records, SWEEP, 2)
    assert told == "sweep digits may now have 2 trials; it was completed and runs again"
    last = records.journal(SWEEP)[-1]
    assert (last.event, last.reason) == ("sweep running", "extend asked for by hand")


def test_a_cancelled_sweep_with_nothing_to_retry_is_extended(records: Records) -> None:
    timed(records, 1)
    finish(records, 0, 0.5)
    control.cancel(records, SWEEP)
    assert "it was cancelled and runs again" in control.extend(records, SWEEP, 2)


def test_closing_a_sweep_adds_no_trial(records: Records, clock: FakeClock) -> None:
    """The maximum number of trials was lowered just before, in the same decision."""
    sweep = timed(records, 5, max_hours=1.0)
    with records.deciding(sweep.id) as decision:
        decision.set_max_trials(8)
    clock.pass_s(3601.0)
    advance(records, sweep.id)
    assert records.counts(SWEEP) == {TrialState.CANCELLED: 5}
    assert records.sweep(SWEEP).state.final


def test_a_decision_sees_the_sweep_as_it_left_it(records: Records) -> None:
    put_sweep(records)
    add_trials(records, SWEEP, [1])
    with records.deciding(SWEEP) as decision:
        decision.set_max_trials(7)
        decision.set_state(SweepState.PAUSED, "by hand")
        assert (decision.sweep.max_trials, decision.sweep.state) == (7, SweepState.PAUSED)
    assert records.sweep(SWEEP) == decision.sweep

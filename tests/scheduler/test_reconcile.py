"""Lost leases and lost hints are recovered, and no single sweep or silent Redis stops the rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, add_trials, claim

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.hints import Hint
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.scheduler.deciding import control
from kerasweep.scheduler.deciding import reconcile as module
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.reconcile import reconcile
from kerasweep.scheduler.deciding.replay import replay

SWEEP = "abcd1234"
SETTINGS = Settings(reconcile_s=5.0)


class FakeQueue:
    """Accepts hints, or does not respond."""

    def __init__(self) -> None:
        self.sent: list[Hint] = []
        self.away = False

    def send(self, hints: list[Hint], *, ahead: bool = False) -> None:
        self._answer()
        self.sent = hints + self.sent if ahead else self.sent + hints

    def waiting(self, queue: str) -> set[TrialKey]:
        self._answer()
        return {hint.key for hint in self.sent}

    def take_all(self) -> list[int]:
        taken, self.sent = [hint.key.trial for hint in self.sent], []
        return taken

    def _answer(self) -> None:
        if self.away:
            raise OutOfReach("Redis", "redis://nowhere", "start it")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def records(tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    made = Records(f"sqlite:///{tmp_path / 'store.db'}", clock=clock)
    made.create_sweep(replace(a_sweep(), max_trials=3))
    add_trials(made, SWEEP, range(3))
    yield made
    made.close()


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


def round_of(records: Records, queue: Any) -> None:
    reconcile(records, queue, SETTINGS)


def test_each_queued_trial_gets_one_hint(records: Records, queue: FakeQueue) -> None:
    round_of(records, queue)
    assert queue.take_all() == [0, 1, 2]
    round_of(records, queue)
    assert queue.take_all() == []


def test_old_hints_that_left_their_queue_are_sent_again(
    records: Records, queue: FakeQueue, clock: FakeClock
) -> None:
    round_of(records, queue)
    claim(records, trial=1)
    clock.pass_s(11.0)
    round_of(records, queue)
    assert len(queue.sent) == 3, "they wait in the queue: nothing is lost"
    queue.take_all()
    round_of(records, queue)
    assert queue.take_all() == [], "they were seen in the queue a moment ago"
    clock.pass_s(11.0)
    round_of(records, queue)
    assert queue.take_all() == [0, 2]
    round_of(records, queue)
    assert queue.take_all() == [], "they were sent a moment ago"


def test_a_lost_hint_does_not_wait_for_those_of_another_sweep(
    records: Records, queue: FakeQueue, clock: FakeClock
) -> None:
    round_of(records, queue)
    del queue.sent[1]
    records.create_sweep(replace(a_sweep("efab5678"), max_trials=1500))
    round_of(records, queue)
    before = len(queue.sent)
    for _ in range(5):
        clock.pass_s(11.0)
        round_of(records, queue)
    assert (queue.sent[0].key, len(queue.sent)) == (TrialKey(SWEEP, 1), before + 1)


def test_a_lease_that_ran_out_is_taken_back_and_hinted_in_the_same_round(
    records: Records, queue: FakeQueue, clock: FakeClock
) -> None:
    round_of(records, queue)
    queue.take_all()
    for trial in range(3):
        claim(records, trial=trial)
    clock.pass_s(LEASE_S + 0.1)
    round_of(records, queue)
    assert queue.take_all() == [0, 1, 2]
    assert records.counts(SWEEP) == {TrialState.QUEUED: 3}
    assert [attempt.outcome for attempt in records.attempts(SWEEP)] == ["failed: lost"] * 3


def test_leases_are_taken_back_while_redis_is_silent(
    records: Records, queue: FakeQueue, clock: FakeClock
) -> None:
    claim(records)
    clock.pass_s(LEASE_S + 0.1)
    queue.away = True
    round_of(records, queue)
    assert records.trial(TrialKey(SWEEP, 0)).state is TrialState.QUEUED
    queue.away = False
    round_of(records, queue)
    assert queue.take_all() == [0, 1, 2]


def test_a_sweep_that_cannot_be_decided_on_stops_no_other(
    records: Records, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.create_sweep(replace(a_sweep("efab5678"), max_trials=2))
    real = module.advance

    def fail_in_one(records: Records, sweep: str) -> None:
        if sweep == SWEEP:
            raise ZeroDivisionError
        real(records, sweep)

    monkeypatch.setattr(module, "advance", fail_in_one)
    round_of(records, queue)
    assert records.counts("efab5678") == {TrialState.QUEUED: 2}
    assert len(queue.take_all()) == 5


@pytest.mark.parametrize("given", [ZeroDivisionError("by zero"), KeyError("units")])
def test_a_defect_is_logged_once_and_told_until_it_is_gone(
    records: Records,
    queue: FakeQueue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    given: Exception,
) -> None:
    def fail(records: Records, sweep: str) -> None:
        raise given

    with monkeypatch.context() as broken:
        broken.setattr(module, "advance", fail)
        for _ in range(3):
            round_of(records, queue)
    assert len([one for one in caplog.records if one.exc_info]) == 1
    sweep = records.sweep(SWEEP)
    assert (sweep.state, sweep.message) == (
        SweepState.RUNNING,
        f"the scheduler cannot decide on it: {type(given).__name__}: {given}",
    )
    round_of(records, queue)
    assert records.sweep(SWEEP).message == ""


def test_what_the_user_must_correct_pauses_a_sweep_with_the_reason(
    records: Records, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Installed and resumed, it goes on as if the package had been there all the time."""
    for sweep in ("aaaa1111", "bbbb2222"):
        made = a_sweep(sweep)
        spec = parse_spec({**made.spec.model_dump(mode="json"), "method": "cmaes"})
        records.create_sweep(replace(made, spec=spec, max_trials=8))
    advance(records, "aaaa1111")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "cmaes", None)
        for _ in range(3):
            round_of(records, queue)
        sweep = records.sweep("bbbb2222")
        assert sweep.state is SweepState.PAUSED
        assert (
            "the package cmaes, which is not installed where the scheduler runs; pip install" in sweep.message
        )
        [told] = [one.reason for one in records.journal("bbbb2222") if one.event == "sweep paused"]
        assert told == sweep.message
        assert [one.exc_info for one in caplog.records] == [None], "one line, without a traceback"
        control.pause(records, "bbbb2222")
        assert records.sweep("bbbb2222").message == told, "a pause by hand corrects nothing"
    control.resume(records, "bbbb2222")
    round_of(records, queue)
    assert records.sweep("bbbb2222").message == ""
    chosen = [[one.params for one in records.trials(sweep)] for sweep in ("aaaa1111", "bbbb2222")]
    assert chosen[0] == chosen[1] != []
    assert replay(records, records.sweep("bbbb2222")).difference is None

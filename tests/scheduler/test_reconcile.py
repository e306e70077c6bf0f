"""Lost leases and lost hints are recovered, and no single sweep or silent Redis stops the rest."""

from __future__ import annotations

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
from kerasweep.jobs.trial import TrialKey, TrialState
from kerasweep.scheduler.deciding import reconcile as module
from kerasweep.scheduler.deciding.reconcile import reconcile

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

    def advance(records: Records, sweep: str) -> None:
        if sweep == SWEEP:
            raise ZeroDivisionError
        real(records, sweep)

    monkeypatch.setattr(module, "advance", advance)
    round_of(records, queue)
    assert records.counts("efab5678") == {TrialState.QUEUED: 2}
    assert len(queue.take_all()) == 5

"""A sick worker is set aside in every store, and what failed on it alone is retried by the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, result

from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialKey, TrialState
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.suspicion import PROBE_S

SWEEP = "abcd1234"
BROKEN = Failure(FailureClass.USER, "ImportError: libsick.so (train.py:3)")


@pytest.fixture
def sweep(records: Records) -> SweepRecord:
    """A sweep of 8 trials with two live workers, w1 and w2."""
    made = a_sweep()
    budget = made.spec.budget.model_copy(update={"max_trials": 8})
    made = replace(made, spec=made.spec.model_copy(update={"budget": budget}), max_trials=8)
    records.create_sweep(made)
    for name in ("w1", "w2"):
        records.seen(name, {"queues": ["train.cpu"]})
    advance(records, SWEEP)
    return made


def take(records: Records, trial: int, worker: str) -> bool:
    """Claim a trial and leave it running; return whether it could be claimed."""
    return records.claim(TrialKey(SWEEP, trial), worker, LEASE_S) is not None


def fail(records: Records, worker: str, *trials: int, failure: Failure = BROKEN) -> None:
    for number in trials:
        claim = records.claim(TrialKey(SWEEP, number), worker, LEASE_S)
        assert claim is not None
        records.fail(claim.key, failure)
        advance(records, SWEEP)


def train(records: Records, worker: str, *trials: int) -> None:
    for number in trials:
        claim = records.claim(TrialKey(SWEEP, number), worker, LEASE_S)
        assert claim is not None
        records.finish(claim.key, result(0.1 + number))
        advance(records, SWEEP)


def aside(records: Records) -> list[str]:
    return [one.worker for one in records.quarantines()]


def states(records: Records, *trials: int) -> set[TrialState]:
    return {records.trial(TrialKey(SWEEP, number)).state for number in trials}


def events(records: Records) -> list[str]:
    return [entry.event for entry in records.journal(SWEEP) if entry.event.startswith("worker")]


class TestASickWorker:
    def test_is_set_aside_and_its_failures_go_to_the_others(
        self, records: Records, sweep: SweepRecord
    ) -> None:
        train(records, "w2", 7)
        fail(records, "w1", 0, 1)
        assert aside(records) == []
        assert states(records, 0, 1) == {TrialState.FAILED}
        fail(records, "w1", 2)
        assert aside(records) == ["w1"]
        assert states(records, 0, 1, 2) == {TrialState.QUEUED}
        assert records.trial(TrialKey(SWEEP, 0)).failure is None
        assert not take(records, 3, "w1"), "it claims nothing"
        train(records, "w2", *range(7))
        assert records.sweep(SWEEP).state is SweepState.COMPLETED
        assert records.counts(SWEEP) == {TrialState.COMPLETED: 8}

    def test_does_not_halt_a_sweep_on_its_word_alone(self, records: Records, sweep: SweepRecord) -> None:
        fail(records, "w1", 0, 1, 2)
        assert records.sweep(SWEEP).state is SweepState.RUNNING
        assert aside(records) == ["w1"]
        assert "have not been asked" in records.quarantines()[0].reason

    def test_is_found_by_faults_of_the_machine_too(self, records: Records, sweep: SweepRecord) -> None:
        full = Failure(FailureClass.MACHINE, "OSError: no space left on device")
        fail(records, "w1", 0, 0, 0, failure=full)
        assert aside(records) == ["w1"]
        assert states(records, 0) == {TrialState.QUEUED}

    def test_with_few_failures_is_found_at_the_end(self, records: Records, sweep: SweepRecord) -> None:
        train(records, "w2", *range(7))
        fail(records, "w1", 7)
        assert aside(records) == ["w1"]
        train(records, "w2", 7)
        assert records.sweep(SWEEP).state is SweepState.COMPLETED

    def test_is_never_the_last_one(self, records: Records, sweep: SweepRecord, clock: FakeClock) -> None:
        fail(records, "w1", 0, 1, 2)
        clock.pass_s(60.0)
        records.seen("w1", {"queues": ["train.cpu"]})  # w2 is gone
        advance(records, SWEEP)
        assert aside(records) == []
        assert events(records) == ["worker set aside", "worker released"]

    def test_is_taken_back_by_hand(self, records: Records, sweep: SweepRecord) -> None:
        fail(records, "w1", 0, 1, 2)
        assert records.release_worker("w1")
        assert not records.release_worker("w1")
        assert take(records, 0, "w1")

    def test_is_taken_back_after_a_probe(
        self, records: Records, sweep: SweepRecord, clock: FakeClock
    ) -> None:
        fail(records, "w1", 0, 1, 2)
        clock.pass_s(PROBE_S + 1)
        for name in ("w1", "w2"):
            records.seen(name, {"queues": ["train.cpu"]})
        assert not records.is_aside("w1")
        claim = records.claim(TrialKey(SWEEP, 3), "w1", LEASE_S)
        assert claim is not None
        assert not take(records, 4, "w1"), "one trial is enough for a probe"
        records.fail(claim.key, BROKEN)
        advance(records, SWEEP)
        assert states(records, 3) == {TrialState.QUEUED}, "others train it"
        assert aside(records) == ["w1"]
        clock.pass_s(2 * PROBE_S + 1)
        train(records, "w1", 3)
        assert aside(records) == []


class TestABrokenJob:
    def test_halts_when_two_workers_say_so(self, records: Records, sweep: SweepRecord) -> None:
        fail(records, "w1", 0, 1)
        fail(records, "w2", 2)
        assert records.sweep(SWEEP).state is SweepState.FAILED
        assert aside(records) == []

    def test_that_one_worker_met_first_is_confirmed_by_the_other(
        self, records: Records, sweep: SweepRecord
    ) -> None:
        fail(records, "w1", 0, 1, 2)
        fail(records, "w2", 0, 1, 2)
        assert records.sweep(SWEEP).state is SweepState.FAILED
        assert aside(records) == []

    def test_with_a_single_worker_halts_as_ever(self, records: Records, sweep: SweepRecord) -> None:
        records.gone("w2")
        fail(records, "w1", 0, 1, 2)
        assert records.sweep(SWEEP).state is SweepState.FAILED


def test_trials_that_fail_everywhere_fail(records: Records, sweep: SweepRecord, clock: FakeClock) -> None:
    train(records, "w2", 7)
    clock.pass_s(1.0)
    fail(records, "w1", 0, 1, 2)
    fail(records, "w2", 0, 1, 2)
    assert states(records, 0, 1, 2) == {TrialState.FAILED}
    assert aside(records) == [], "others saw them fail too"
    train(records, "w1", 3, 4)
    train(records, "w2", 5, 6)
    assert records.sweep(SWEEP).state is SweepState.COMPLETED

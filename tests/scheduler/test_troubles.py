"""How status reports retries that do not count, and workers that are set aside."""

from __future__ import annotations

from kerasweep.jobs.store.faults.quarantines import Quarantine
from kerasweep.jobs.store.faults.setbacks import Setback
from kerasweep.jobs.sweepfile.spec import Retries
from kerasweep.jobs.trial import FailureClass
from kerasweep.scheduler.client.troubles import troubles_of, waiting_for

REFUSED = "The artifact store is out of reach at s3://bucket (403 Forbidden)"


def setback(trial: int, cls: FailureClass | None, count: int, at: float = 1000.0) -> Setback:
    return Setback(trial, cls, count, REFUSED, at)


def test_a_refusing_store_is_reported_at_once_with_its_limit() -> None:
    [told] = troubles_of(
        [setback(3, FailureClass.STORE, 2), setback(4, FailureClass.STORE, 1)], [], Retries()
    )
    assert told == f"store: trial 3 2 times of 50 allowed, and 1 other trial less often; last: {REFUSED}"
    assert waiting_for([setback(3, FailureClass.STORE, 2)], 1001.0) == f"trial 3 is being retried: {REFUSED}"
    assert waiting_for([setback(3, FailureClass.STORE, 2)], 9000.0) is None, "long ago"


def test_interruptions_are_reported_from_half_of_their_limit() -> None:
    assert troubles_of([setback(0, FailureClass.LOST, 99)], [], Retries()) == ()
    [told] = troubles_of([setback(0, FailureClass.LOST, 100)], [], Retries())
    assert told.startswith("lost: trial 0 100 times of 200 allowed")


def test_what_a_running_trial_waits_for_comes_first() -> None:
    full = Setback(1, None, 1, "its model is not saved yet: the disk is full", 900.0)
    assert waiting_for([full, setback(0, FailureClass.STORE, 1)], 1000.0) == f"trial 1 waits: {full.message}"


def test_a_worker_that_is_set_aside_is_named_with_the_remedy() -> None:
    aside = Quarantine("w0", "abcd", 0.0, 300.0, 600.0, "its last trials all failed")
    [told] = troubles_of([], [aside], Retries())
    assert "worker w0 is set aside: its last trials all failed" in told
    assert "kerasweep workers --release w0" in told

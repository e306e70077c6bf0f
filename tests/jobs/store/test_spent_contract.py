"""The training time of a sweep, in every store: only the time during which attempts ran."""

from __future__ import annotations

from recorded import LEASE_S, FakeClock, claim, progress, put_sweep, result

from kerasweep.jobs.kernel import process_mark
from kerasweep.jobs.store.models import ProcessKind
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import TrialState

SWEEP = "abcd1234"


class TestTheTimeSpent:
    def test_is_that_of_attempts_however_many_run_at_once(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, 3)
        clock.pass_s(1000)
        assert records.spent(SWEEP).seconds == 0
        first = claim(records, trial=0)
        clock.pass_s(10)
        second = claim(records, trial=1)
        clock.pass_s(10)
        records.finish(first.key, result())
        clock.pass_s(5)
        records.finish(second.key, result())
        assert records.spent(SWEEP).seconds == 25
        clock.pass_s(1)
        third = claim(records, trial=2)  # a hint's way after the last one
        clock.pass_s(4)
        assert records.spent(SWEEP).seconds == 30
        records.finish(third.key, result())
        clock.pass_s(1000)
        assert records.spent(SWEEP).seconds == 30

    def test_counts_no_pause(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        first = claim(records)
        clock.pass_s(10)
        records.release(first.key, TrialState.QUEUED, "the worker ends")
        clock.pass_s(3600)
        again = clock.now
        claim(records)
        clock.pass_s(7)
        spent = records.spent(SWEEP)
        assert (spent.seconds, spent.since) == (17, again)

    def test_of_a_lost_worker_ends_with_its_last_epoch(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        first = claim(records)
        clock.pass_s(20)
        records.record([progress(first.key, 1)], LEASE_S)
        clock.pass_s(10)
        assert records.spent(SWEEP).seconds == 30  # it still holds its lease
        clock.pass_s(86_400)  # the machine is off
        assert records.spent(SWEEP).seconds == 20
        records.expire_leases()
        assert records.spent(SWEEP).seconds == 20


def test_a_run_is_told_from_a_scheduler(records: Records, clock: FakeClock) -> None:
    records.seen("s1", {}, ProcessKind.SCHEDULER)
    records.seen("run-1", {"process": process_mark()}, ProcessKind.RUN)
    assert [one.id for one in records.alive(ProcessKind.SCHEDULER)] == ["s1"]
    assert [one.id for one in records.alive(ProcessKind.RUN)] == ["run-1"]
    clock.pass_s(31)
    assert records.alive(ProcessKind.RUN) == []
    records.seen("run-1", {"process": process_mark()}, ProcessKind.RUN)
    records.gone("run-1", ProcessKind.RUN)
    assert records.alive(ProcessKind.RUN) == []

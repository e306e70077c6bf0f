"""The training time of a sweep, in every store: only the time during which attempts ran."""

from __future__ import annotations

from recorded import LEASE_S, FakeClock, claim, progress, put_sweep, result

from kerasweep.jobs.kernel import ProcessKind, process_mark
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.spent import Pace
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client.forecast import seconds_left

SWEEP = "abcd1234"


class TestTheTimeSpent:
    def test_is_that_of_attempts_however_many_run_at_once(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, 3)
        clock.pass_s(1000)
        assert records.spent_s(SWEEP) == 0
        first = claim(records, trial=0)
        clock.pass_s(10)
        second = claim(records, trial=1)
        clock.pass_s(10)
        records.finish(first.key, result())
        clock.pass_s(5)
        records.finish(second.key, result())
        assert records.spent_s(SWEEP) == 25
        clock.pass_s(1)
        third = claim(records, trial=2)  # a hint's way after the last one
        clock.pass_s(4)
        assert records.spent_s(SWEEP) == 30
        records.finish(third.key, result())
        clock.pass_s(1000)
        assert records.spent_s(SWEEP) == 30

    def test_counts_no_pause(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        first = claim(records)
        clock.pass_s(10)
        records.release(first.key, TrialState.QUEUED, "the worker ends")
        clock.pass_s(3600)
        claim(records)
        clock.pass_s(7)
        assert records.spent_s(SWEEP) == 17

    def test_of_a_lost_worker_ends_with_its_last_epoch(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        first = claim(records)
        clock.pass_s(20)
        records.record([progress(first.key, 1)], LEASE_S)
        clock.pass_s(10)
        assert records.spent_s(SWEEP) == 30  # it still holds its lease
        clock.pass_s(86_400)  # the machine is off
        assert records.spent_s(SWEEP) == 20
        records.expire_leases()
        assert records.spent_s(SWEEP) == 20


class TestThePace:
    def test_is_that_of_the_last_trials(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, 4)
        slow = claim(records, trial=0)
        clock.pass_s(60)  # data and programs
        records.finish(slow.key, result(epochs=3), progress(slow.key, 1, 2, 3))
        assert records.pace(SWEEP, lambda _: 9) == Pace(3, 9, 3 / 60)
        clock.pass_s(1000)  # nothing runs
        assert records.pace(SWEEP, lambda _: 9) is None
        both = [claim(records, trial=number) for number in (1, 2)]
        for second in range(1, 7):
            clock.pass_s(2)
            records.record([progress(one.key, second) for one in both], LEASE_S)
        records.finish(both[0].key, result(epochs=6))
        pace = records.pace(SWEEP, lambda _: 9)
        assert pace is not None
        assert (pace.epochs_each, pace.planned_each, pace.epochs_per_s) == (4.5, 9, 0.5)


def test_the_rest_is_what_is_left_at_that_pace() -> None:
    pace = Pace(epochs_each=6, planned_each=9, epochs_per_s=0.5)
    assert seconds_left(pace, 2, [(9, 2), (9, 4)], waiting=3) == (4 + 2 + 3 * 6) / (0.5 * 2)
    assert seconds_left(pace, 2, [(9, 8)], waiting=0) == 1
    assert seconds_left(pace, 2, [], waiting=3) is None
    assert seconds_left(pace, 3, [(9, 0)] * 8, waiting=3) is None


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

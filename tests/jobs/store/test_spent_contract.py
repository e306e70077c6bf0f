"""The training time of a sweep, in every store: only the time during which attempts ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from recorded import LEASE_S, FakeClock, claim, progress, put_sweep, result

from kerasweep.jobs.kernel import ProcessKind, process_mark
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.spent import Pace, Underway
from kerasweep.jobs.sweepfile.stopping import Halving, Stopping
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client.forecast import Times, seconds_left, times_of

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

    def test_before_a_moment_is_by_the_same_clock(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, 2)
        start = clock()
        lost = claim(records, trial=0)
        clock.pass_s(20)
        records.record([progress(lost.key, 1)], LEASE_S)
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        again = claim(records, trial=0)
        clock.pass_s(6)
        records.finish(again.key, result())
        ended = clock()
        clock.pass_s(1)
        claim(records, trial=1)
        clock.pass_s(3)
        moments = [start, start + 5, start + 25, ended - 2, ended, ended + 0.5, ended + 2, math.inf]
        assert records.spent_until(SWEEP, moments) == [0, 5, 20, 24, 26, 26, 28, 30]
        assert records.spent_s(SWEEP) == 30


class TestThePace:
    def test_leaves_out_what_comes_before_first_epochs(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, 4)
        assert records.pace(SWEEP, nine_epochs) is None
        first = [claim(records, trial=number) for number in (0, 1)]
        clock.pass_s(60)  # data and programs
        records.record([progress(one.key, 1) for one in first], LEASE_S)
        assert records.pace(SWEEP, nine_epochs) is None  # no epoch has been timed
        clock.pass_s(10)
        records.record([progress(one.key, 2) for one in first], LEASE_S)
        assert records.pace(SWEEP, nine_epochs) is None  # of three epochs each
        clock.pass_s(10)
        records.record([progress(one.key, 3) for one in first], LEASE_S)
        clock.pass_s(4)
        running = [Underway(9, 3, 4, late=False)] * 2
        assert records.pace(SWEEP, nine_epochs) == Pace(10, 2, [60, 60], [], [], running)
        clock.pass_s(6)
        records.finish(first[0].key, result(epochs=4), progress(first[0].key, 4))
        clock.pass_s(1)
        late = claim(records, trial=2)
        clock.pass_s(3)
        pace = records.pace(SWEEP, nine_epochs)
        assert pace is not None
        assert pace.lengths == [(9, 4)]
        assert pace.running == [Underway(9, 3, 14, late=False), Underway(9, 0, 3, late=True)]
        clock.pass_s(2)
        records.record([progress(late.key, 1)], LEASE_S)
        pace = records.pace(SWEEP, nine_epochs)
        assert pace is not None
        assert (pace.epoch_s, pace.first_starts, pace.starts) == (10, [60, 60], [5])
        assert pace.width == pytest.approx(2 - 1 / 67.5)  # a slot was free for one second of the last 67.5

    def test_is_unknown_once_no_epoch_ends(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, 2)
        one = claim(records, trial=0)
        clock.pass_s(6)
        records.finish(one.key, result(epochs=3), progress(one.key, 1, 2, 3))
        claim(records, trial=1)
        clock.pass_s(25)
        assert records.pace(SWEEP, nine_epochs) is None

    def test_tells_the_rest_unless_how_many_will_be_stopped_is_not_known(
        self, records: Records, clock: FakeClock
    ) -> None:
        sweep = replace(put_sweep(records, 2), max_trials=2)
        both = [claim(records, trial=number) for number in (0, 1)]
        for epoch in (1, 2, 3):
            clock.pass_s(10)
            records.record([progress(one.key, epoch) for one in both], LEASE_S)
        assert times_of(records, sweep, nine_epochs) == Times(30, 6 * 10)
        stopping = Stopping(halving=Halving(min_epochs=3))
        halved = replace(sweep, spec=sweep.spec.model_copy(update={"stopping": stopping}))
        assert times_of(records, halved, nine_epochs) == Times(30, None)


def nine_epochs(params: Mapping[str, Any]) -> int:
    return 9


def pace_of(running: Sequence[Underway], **changes: Any) -> Pace:
    """Return the pace of trials whose epochs take 2 s, two at once."""
    return replace(Pace(2.0, 2.0, [30.0, 30.0], [], [], running), **changes)


HALFWAY = Underway(planned=9, epochs=5, age_s=1.0, late=False)


def test_the_rest_is_every_epoch_and_start_still_to_come_at_that_pace() -> None:
    pace = pace_of([HALFWAY, HALFWAY], starts=[5.0, 5.0], lengths=[(9, 9)] * 4)
    epochs_s = 2 * (4 * 2 - 1)
    assert seconds_left(pace, 0) == epochs_s / 2
    assert seconds_left(pace, 3) == (epochs_s + 3 * (5 - 2 + 9 * 2)) / 2
    assert seconds_left(replace(pace, epoch_s=4.0, width=4.0), 0) == pytest.approx(2 * (4 * 4 - 1) / 4)
    ending = replace(HALFWAY, epochs=9)
    assert seconds_left(pace_of([ending]), 0) == 0.25 * 2 / 2


def test_a_start_that_is_not_over_counts_as_longer_than_those_that_are() -> None:
    starting = Underway(planned=9, epochs=0, age_s=10.0, late=True)
    pace = pace_of([HALFWAY, starting], starts=[4.0], lengths=[(9, 9)])
    start_s = 4 + 10 - 2
    rest_s = (4 * 2 - 1) + (start_s + 9 * 2 - 0.7 * 10)
    assert seconds_left(pace, 0) == rest_s / 2


def test_the_first_starts_tell_the_rest_only_where_they_hardly_matter() -> None:
    assert seconds_left(pace_of([HALFWAY, HALFWAY]), 0) == 7
    assert seconds_left(pace_of([HALFWAY, HALFWAY]), 8) is None  # each may take 28 s to start, or nothing
    quick = pace_of([HALFWAY, HALFWAY], first_starts=[4.0, 6.0])
    assert seconds_left(quick, 8) == (7 + 8 * 9) + 8 * 3 / 2 / 2
    assert seconds_left(pace_of([HALFWAY], first_starts=[]), 8) is None
    assert (
        seconds_left(pace_of([HALFWAY, HALFWAY], starts=[5.0], width=8.0), 8) is None
    )  # the quickest of eight


def test_early_stopping_shortens_the_rest_and_short_trials_that_end_first_do_not_mislead() -> None:
    going = [replace(HALFWAY, planned=10, epochs=done, age_s=0.0) for done in (6, 6, 6)]
    pace = pace_of(going, lengths=[(10, 4)])
    assert seconds_left(pace, 0) == 3 * 4 * 2 / 2  # none that got so far has stopped
    fresh = replace(going[0], epochs=1)
    expected = 3 + 0.75 * 6  # at epoch 4 one of four ended
    assert seconds_left(replace(pace, running=[*going, fresh]), 0) == (3 * 4 + expected) * 2 / 2
    both = pace_of([fresh], lengths=[(10, 4), (10, 8), (10, 10)])
    assert seconds_left(both, 0) == pytest.approx(3 + (2 / 3) * 4 + (2 / 3) * (1 / 2) * 2)


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

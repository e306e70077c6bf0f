"""Trials that wait at rungs: the decisions on them, independent of speed, and user requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from held import LEASE_S, begin, loss, reach, train
from recorded import FakeClock

from kerasweep.jobs.errors import IllegalMove, InputError
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Claim, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialKey, TrialState
from kerasweep.scheduler.deciding import control
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.replay import replay
from kerasweep.scheduler.deciding.rungs import awaited
from kerasweep.scheduler.stopping.patience import UNDER_WAY_AT_ONCE, exhausted_at

SWEEP = "abcd1234"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def records(tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    found = Records(f"sqlite:///{tmp_path / 'store.db'}", clock=clock)
    yield found
    found.close()


def table(records: Records, sweep: str) -> list[Any]:
    return [(one.number, one.params, one.state, one.value, one.epochs) for one in records.trials(sweep)]


@pytest.mark.parametrize("method", ["random", "auto"])
def test_the_same_file_and_seed_decide_the_same_on_any_number_of_slots(records: Records, method: str) -> None:
    tables = []
    for sweep, slots, pick in (("one1", 1, min), ("eight8", 8, max)):
        begin(records, sweep, method=method)
        train(records, sweep, slots, pick)
        assert records.sweep(sweep).state is SweepState.COMPLETED
        tables.append(table(records, sweep))
    assert tables[0] == tables[1]
    states = [state for _, _, state, _, _ in tables[0]]
    assert (len(states), states.count(TrialState.COMPLETED)) == (20, 4)
    assert {one[4] for one in tables[0] if one[2] is TrialState.STOPPED} == {1, 3}
    assert all(value is not None for *_, value, _ in tables[0])


def test_the_median_and_start_points_decide_the_same_too(records: Records) -> None:
    start = [{"learning_rate": 0.05}, {"learning_rate": 0.002}]
    tables = []
    for sweep, slots, pick in (("one1", 1, min), ("eight8", 8, max)):
        begin(records, sweep, start=start, stopping={"median": {"min_epochs": 3, "startup_trials": 2}})
        train(records, sweep, slots, pick)
        tables.append(table(records, sweep))
    assert tables[0] == tables[1]
    assert [one[1] for one in tables[0][:2]] == start
    assert TrialState.STOPPED in {one[2] for one in tables[0]}


def test_two_cohorts_are_under_way_at_a_time(records: Records) -> None:
    assert len(records.trials(begin(records))) == 12


def test_the_sweep_ends_where_nothing_gets_better_whoever_is_faster(records: Records) -> None:
    """Those under way by then are trained to their ends."""
    for sweep, slots, pick in (("one1", 1, min), ("eight8", 8, max)):
        begin(records, sweep, stopping={"patience": 2})
        train(records, sweep, slots, pick)
        found = records.sweep(sweep)
        values = [loss(number, 9) for number in range(20)]
        spent = exhausted_at(values, 2, maximize=False)
        assert spent is not None
        assert (found.state, found.max_trials) == (SweepState.COMPLETED, spent - 1 + UNDER_WAY_AT_ONCE)
        assert len(records.trials(sweep)) == found.max_trials
        cause = "no improvement for 2 trials (stopping.patience)"
        assert found.message == f"ended after {found.max_trials} of 20 trials: {cause}"
    with pytest.raises(InputError, match=r"stopping.patience = 2 is used up"):
        control.extend(records, sweep, 20)


def test_spent_hours_end_what_waits_with_the_values_that_it_has(records: Records, clock: FakeClock) -> None:
    sweep = begin(records, budget={"max_trials": 20, "max_hours": 1.0})
    hold_first(records, sweep, range(8))  # one cohort is decided, and two trials of the next one wait
    going = [one.number for one in records.trials(sweep, [TrialState.QUEUED]) if one.rung == 3]
    assert len(going) == 2
    clock.pass_s(3601.0)
    advance(records, sweep)
    train(records, sweep)
    assert records.sweep(sweep).state is SweepState.COMPLETED
    trials = records.trials(sweep)
    assert [one.state for one in trials] == ["stopped"] * 8 + ["cancelled"] * 4
    assert [one.value for one in trials[:8]] == [loss(number, 1) for number in range(8)]


def test_the_best_of_those_that_are_stopped_write_their_models(records: Records) -> None:
    sweep = begin(records)
    hold_first(records, sweep, range(6))
    ranked = sorted(range(6), key=lambda number: loss(number, 1))
    found = {one.number: one for one in records.trials(sweep)}
    assert [found[number].state for number in ranked] == ["queued"] * 5 + ["stopped"]
    assert [found[number].ends for number in ranked] == [False] * 2 + [True] * 3 + [False]
    hold_first(records, sweep, ranked[2:5])
    assert [records.trials(sweep)[number].state for number in ranked[2:5]] == ["stopped"] * 3


def test_a_finite_space_that_is_spent_ends_with_a_smaller_cohort(records: Records) -> None:
    sweep = begin(records, parameters={"learning_rate": {"values": [0.1 * n for n in range(1, 9)]}})
    train(records, sweep)
    advance(records, sweep)
    assert len(records.trials(sweep)) == 8
    assert records.sweep(sweep).state is SweepState.COMPLETED


def hold_first(records: Records, sweep: str, among: Sequence[int]) -> None:
    for number in among:
        claim = records.claim(TrialKey(sweep, number), "worker", LEASE_S)
        assert claim is not None
        reach(records, claim)
    advance(records, sweep)


def states(records: Records, sweep: str) -> list[str]:
    return [one.state for one in records.trials(sweep)][:6]


def test_a_cohort_waits_for_a_paused_trial_and_goes_on_with_it(records: Records) -> None:
    sweep = begin(records)
    control.pause(records, sweep, 5)
    hold_first(records, sweep, range(5))
    assert states(records, sweep) == ["waiting"] * 5 + ["paused"]
    assert awaited(records, records.sweep(sweep)) == [5]
    control.resume(records, sweep, 5)
    hold_first(records, sweep, [5])
    assert "waiting" not in states(records, sweep)


def test_one_that_is_paused_while_it_waits_has_reached_its_rung(records: Records) -> None:
    sweep = begin(records)
    hold_first(records, sweep, [0])
    control.pause(records, sweep, 0)
    hold_first(records, sweep, range(1, 6))
    assert states(records, sweep)[0] == "paused"
    assert "waiting" not in states(records, sweep)
    control.resume(records, sweep, 0)
    hold_first(records, sweep, [0])
    assert states(records, sweep)[0] in ("queued", "stopped")


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_one_that_was_cancelled_or_failed_is_no_longer_waited_for(records: Records, end: str) -> None:
    sweep = begin(records)
    hold_first(records, sweep, range(5))
    if end == "cancel":
        control.cancel(records, sweep, 5)
    else:
        claim = records.claim(TrialKey(sweep, 5), "worker", LEASE_S)
        assert claim is not None
        records.fail(claim.key, Failure(FailureClass.DIVERGED, "the loss is NaN"))
    advance(records, sweep)
    assert "waiting" not in states(records, sweep)
    control.retry(records, sweep, 5)
    hold_first(records, sweep, [5])
    assert states(records, sweep)[5] in ("queued", "stopped")
    train(records, sweep)
    assert replay(records, records.sweep(sweep)).difference is None


def test_a_sweep_that_is_cancelled_takes_those_that_wait_with_it(records: Records) -> None:
    sweep = begin(records)
    hold_first(records, sweep, range(3))
    control.cancel(records, sweep)
    assert set(states(records, sweep)) == {"cancelled"}


def test_an_extended_sweep_goes_on_with_further_cohorts(records: Records) -> None:
    sweep = begin(records, budget={"max_trials": 6})
    train(records, sweep)
    assert records.sweep(sweep).state is SweepState.COMPLETED
    control.extend(records, sweep, 12)
    advance(records, sweep)
    train(records, sweep)
    assert [one.state for one in records.trials(sweep)].count(TrialState.COMPLETED) == 2


def test_two_workers_and_two_schedulers_on_postgresql_decide_the_same(
    records: Records, postgres_url: str
) -> None:
    begin(records, method="auto", budget={"max_trials": 14})
    train(records, SWEEP)
    schedulers = [Records(postgres_url), Records(postgres_url)]
    begin(schedulers[0], method="auto", budget={"max_trials": 14})
    running: list[Claim] = []
    for turn in count():
        mine = schedulers[turn % 2]
        for one in mine.trials(SWEEP, [TrialState.QUEUED])[: 5 - len(running)]:
            claim = mine.claim(TrialKey(SWEEP, one.number), f"worker-{len(running) % 2}", LEASE_S)
            assert claim is not None
            running.append(claim)
        if not running:
            break
        reach(mine, running.pop(turn % len(running)))
        advance(schedulers[(turn + turn // 3) % 2], SWEEP)
    assert table(schedulers[0], SWEEP) == table(records, SWEEP)
    assert replay(schedulers[1], schedulers[1].sweep(SWEEP)).difference is None
    for one in schedulers:
        one.close()


def test_status_says_when_a_cohort_waits_for_a_paused_trial(folder: Path, shell: Any) -> None:
    records = Records(f"sqlite:///{folder}/.kerasweep/store.db")
    sweep = begin(records)
    control.pause(records, sweep, 5)
    hold_first(records, sweep, range(5))
    hold_first(records, sweep, range(6, 12))
    document = json.loads(shell("status", "digits", "-o", "json"))
    told = "trials wait at a rung for trial 5, which is paused; `kerasweep resume digits 5` resumes it"
    assert document["awaited"] == [5]
    assert told in [document["waiting"], *document["troubles"]]
    records.close()


def test_a_paused_sweep_decides_on_no_cohort_until_it_is_resumed(records: Records) -> None:
    sweep = begin(records)
    hold_first(records, sweep, range(5))
    claim = records.claim(TrialKey(sweep, 5), "worker", LEASE_S)
    assert claim is not None
    control.pause(records, sweep)
    reach(records, claim)
    advance(records, sweep)
    assert states(records, sweep) == ["waiting"] * 6
    control.resume(records, sweep)
    advance(records, sweep)
    assert "waiting" not in states(records, sweep)
    train(records, sweep)
    assert replay(records, records.sweep(sweep)).difference is None


def test_extending_fills_the_last_cohort_and_keeps_what_was_decided_in_it(records: Records) -> None:
    sweep = begin(records, budget={"max_trials": 8})
    train(records, sweep)
    before = {one.number: one.state for one in records.trials(sweep)}
    assert sorted(list(before.values())[6:]) == ["completed", "stopped"]
    control.extend(records, sweep, 12)
    advance(records, sweep)
    train(records, sweep)
    after = {one.number: one.state for one in records.trials(sweep)}
    assert len(after) == 12
    assert before.items() <= after.items()
    assert records.sweep(sweep).state is SweepState.COMPLETED
    assert replay(records, records.sweep(sweep)).difference is None


def test_nothing_waits_without_a_checkpoint_of_its_rung(records: Records) -> None:
    sweep = begin(records)
    claim = records.claim(TrialKey(sweep, 0), "worker", LEASE_S)
    assert claim is not None
    result = Result(TrialState.WAITING, 0.5, 1, 1, {}, "d" * 64)
    with pytest.raises(IllegalMove, match="a checkpoint of its rung"):
        records.hold(claim.key, result, ArtifactRef("checkpoint", "k", "c" * 64, 1, 2), Progress(claim.key))
    assert records.trial(TrialKey(sweep, 0)).state is TrialState.RUNNING

"""replay decides a sweep again; add queues the user's points among those of the method."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from held import LEASE_S, begin, reach, train

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialKey, TrialState
from kerasweep.scheduler import samplers
from kerasweep.scheduler.deciding import control, replay
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.by_hand import add

SWEEP = "abcd1234"


def again(records: Records) -> replay.Replay:
    return replay.replay(records, records.sweep(SWEEP))


@pytest.mark.parametrize(
    ("method", "stopping"),
    [
        ("random", {"halving": {"rungs": [1, 3], "cohort": 6}}),
        ({"name": "tpe", "startup_trials": 3}, {"halving": {"rungs": [1, 3], "cohort": 6}}),
        ({"name": "tpe", "startup_trials": 3}, {"patience": 3}),
        ("qmc", {"median": {"min_epochs": 3, "startup_trials": 2}}),
    ],
)
def test_what_was_decided_is_decided_again(records: Records, method: Any, stopping: Any) -> None:
    begin(records, method=method, stopping=stopping, start=[{"learning_rate": 0.05}])
    add(records, SWEEP, {"learning_rate": 0.002})
    train(records, SWEEP, slots=3, pick=max)
    shown = again(records)
    assert records.sweep(SWEEP).state is SweepState.COMPLETED
    assert (shown.difference, shown.versions) == (None, ())
    assert shown.decisions > len(records.trials(SWEEP)) or "patience" in stopping


def test_a_trial_that_came_late_was_decided_on_what_was_there_then(records: Records) -> None:
    begin(records)
    for number in (1, 2, 3, 4, 5, 0):
        claim = records.claim(TrialKey(SWEEP, number), "worker", LEASE_S)
        assert claim is not None
        if number:
            reach(records, claim)
        else:
            records.fail(claim.key, Failure(FailureClass.DIVERGED, "the loss is NaN"))
    advance(records, SWEEP)
    control.retry(records, SWEEP, 0)
    train(records, SWEEP)
    control.extend(records, SWEEP, 26)
    advance(records, SWEEP)
    train(records, SWEEP)
    assert again(records).difference is None


@pytest.mark.parametrize(
    ("tampered", "told"),
    [
        ("update rungs set value = 0.9 where epoch = 3", "was resumed"),
        ("update trials set params = '{\"learning_rate\": 0.05}' where number = 7", "trial 7 has"),
        ("update trials set value = value / 2 where state = 'completed'", "its epochs give"),
        ("update trials set seed = seed + 1 where number = 3", "trial 3 has seed"),
        ("update sweeps set spec = json_set(spec, '$.seed', 4)", "trial 0 has seed"),
    ],
)
def test_what_was_tampered_with_is_found(records: Records, file: Path, tampered: str, told: str) -> None:
    begin(records, budget={"max_trials": 12})
    train(records, SWEEP)
    assert again(records).difference is None
    with sqlite3.connect(file) as raw:
        raw.execute(tampered)
    raw.close()
    assert told in (again(records).difference or "")


def test_packages_of_other_versions_are_told(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setattr(replay, "_version", lambda name: "0.1")
        then.setattr(samplers, "VERSION", 0)
        begin(records, budget={"max_trials": 6})
    assert any(one.startswith("numpy 0.1 chose the points, ") for one in again(records).versions)
    assert "method random 0 chose the points, but 2 is installed here" in again(records).versions


def test_a_point_is_added_beside_the_budget(records: Records) -> None:
    begin(records, budget={"max_trials": 3}, stopping=None)
    assert add(records, SWEEP, {"learning_rate": 0.01}) == "trial 3 of sweep digits is queued"
    train(records, SWEEP)
    assert [one.state for one in records.trials(SWEEP)] == [TrialState.COMPLETED] * 4
    assert [one.by_hand for one in records.trials(SWEEP)] == [False] * 3 + [True]


def test_an_added_point_need_not_name_what_has_one_value(records: Records) -> None:
    rate = {"distribution": "log_uniform", "min": 0.001, "max": 0.1}
    begin(records, parameters={"learning_rate": rate, "pause": 0.4})
    add(records, SWEEP, {"learning_rate": 0.01})
    assert records.trials(SWEEP)[-1].params == {"learning_rate": 0.01, "pause": 0.4}


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ({"learning_rate": 7.0}, "learning_rate must be"),
        ({}, "'learning_rate' is missing"),
        ({"learning_rate": 0.01, "units": 3}, "unknown parameter 'units'"),
        ({"learning_rate": 0.02}, "trial 0 of sweep digits has these values; it is queued"),
    ],
)
def test_what_is_no_new_point_is_refused(records: Records, point: dict[str, Any], told: str) -> None:
    begin(records, start=[{"learning_rate": 0.02}])
    with pytest.raises(InputError, match=told):
        add(records, SWEEP, point)
    assert len(records.trials(SWEEP)) == 12


def test_nothing_is_added_to_a_sweep_that_has_ended(records: Records) -> None:
    begin(records)
    control.cancel(records, SWEEP)
    with pytest.raises(
        InputError, match="a point can only be added while a sweep runs, and digits is cancelled"
    ):
        add(records, SWEEP, {"learning_rate": 0.01})

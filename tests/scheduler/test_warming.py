"""A sweep learns from an earlier one: what is taken, what is left out, and that replay repeats it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from held import LEASE_S, begin, train
from recorded import a_sweep

from kerasweep import Client
from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.models import EpochRecord, NewTrial, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import SweepSpec, parse_spec
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialKey, TrialState
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.deciding.replay import replay
from kerasweep.scheduler.deciding.warming import WarmStart, take
from kerasweep.scheduler.samplers import settled

HALVING = {"halving": {"rungs": [1, 3], "cohort": 6}}
RATE = {"distribution": "log_uniform", "min": 1e-4, "max": 0.1}


def spec_of(**changes: Any) -> SweepSpec:
    written = a_sweep().spec.model_dump(mode="json")
    return settled(parse_spec({**written, "method": "tpe", "budget": {"max_trials": 12}, **changes}))


def put(records: Records, sweep: str, points: list[dict[str, Any]], **changes: Any) -> None:
    """Record a sweep in which each of these points was trained for three epochs."""
    record = a_sweep(sweep, name=sweep)
    records.create_sweep(replace(record, spec=spec_of(name=sweep, method="random", **changes)))
    with records.deciding(sweep) as decision:
        decision.add_trials([NewTrial(n, point, n, "as it was") for n, point in enumerate(points)])
    for number in range(len(points)):
        claim = records.claim(TrialKey(sweep, number), "worker", LEASE_S)
        assert claim is not None
        losses = {epoch: 1.0 / epoch + 0.01 * number for epoch in (1, 2, 3)}
        epochs = [
            EpochRecord(epoch, {"val_loss": loss, "val_acc": 1 - loss}, 0.1) for epoch, loss in losses.items()
        ]
        result = Result(TrialState.COMPLETED, losses[3], 3, 3, {"val_loss": losses[3]}, "d" * 64)
        records.finish(claim.key, result, Progress(claim.key, tuple(epochs)))


def warmed(records: Records, source: str, sweep: str = "warm1", **changes: Any) -> str:
    """Record a sweep that learns from another, and decide its first trials."""
    spec = spec_of(**changes)
    earlier, _ = take(records, source, spec)
    record = replace(a_sweep(sweep), spec=spec, max_trials=spec.planned_trials())
    records.create_sweep(record, earlier)
    advance(records, sweep)
    return sweep


def test_what_has_no_place_in_the_space_is_left_out_with_its_reason(records: Records) -> None:
    wide = {"learning_rate": RATE | {"max": 1.0}, "units": {"values": [10, 20]}}
    points = [{"learning_rate": rate, "units": 10} for rate in (0.01, 0.02, 0.5)]
    put(records, "earlier1", [*points, {"learning_rate": 0.01, "units": 20}], parameters=wide)
    with records.deciding("earlier1") as decision:
        decision.add_trials([NewTrial(4, {"learning_rate": 0.03, "units": 10}, 4, "one more")])
    taken, told = take(records, "earlier1", spec_of(start=[{"learning_rate": 0.02}]))
    assert [(one.params, one.value) for one in taken] == [
        ({"learning_rate": 0.01}, pytest.approx(1 / 3 + 0.015)),
        ({"learning_rate": 0.02}, 1 / 3 + 0.01),
    ]
    assert told == WarmStart(
        "earlier1",
        "earlier1",
        trials=5,
        taken=2,
        left_out={
            "'learning_rate' is outside the space": 1,
            "they have not ended": 1,
            "they have the values of another, which counts with the mean": 1,
        },
        ignored=["units"],
        repeated=1,
    )


def test_values_fixed_under_training_count_as_values(records: Records) -> None:
    put(records, "earlier1", [{"learning_rate": 0.01}])
    swept = {"epochs": 9, "batch_size": {"values": [16, 32]}}
    taken, _ = take(records, "earlier1", spec_of(training=swept))
    assert taken[0].params == {"learning_rate": 0.01, "training.batch_size": 16}
    points = [{"learning_rate": 0.01, "training.batch_size": size} for size in (16, 32)]
    put(records, "earlier2", points, training=swept)
    taken, told = take(records, "earlier2", spec_of())
    assert ([one.trial for one in taken], told.left_out) == (
        [0],
        {"'training.batch_size' differs from the value fixed here": 1},
    )


def test_another_metric_is_read_from_the_epochs(records: Records) -> None:
    put(records, "earlier1", [{"learning_rate": 0.01}])
    taken, _ = take(records, "earlier1", spec_of(metric={"name": "val_acc", "goal": "maximize"}))
    assert taken[0].value == 1 - 1 / 3
    with pytest.raises(InputError, match=r"earlier1 \(earlier1\) has 0 \(1: they have no auc\)"):
        take(records, "earlier1", spec_of(metric={"name": "auc", "goal": "maximize"}))


@pytest.mark.parametrize("method", ["grid", "random", "qmc"])
def test_a_method_that_does_not_learn_is_refused(records: Records, method: str) -> None:
    values = {"learning_rate": {"values": [0.01, 0.02]}}
    with pytest.raises(InputError, match=f"only if its method learns from results, got method '{method}'"):
        take(records, "earlier1", spec_of(method=method, parameters=values))


@pytest.mark.parametrize(
    ("method", "stopping"),
    [("tpe", None), ("tpe", HALVING), ({"name": "auto", "then": "tpe"}, None), ("cmaes", None)],
)
def test_it_learns_from_the_first_trial_on_and_can_be_repeated_without_the_earlier_sweep(
    records: Records, file: Path, method: Any, stopping: Any
) -> None:
    put(records, "earlier1", [{"learning_rate": 0.05 - 0.001 * n} for n in range(24)])
    sweep = warmed(records, "earlier1", method=method, stopping=stopping)
    with records.deciding("earlier1") as decision:
        decision.set_state(SweepState.CANCELLED, "by hand")
    records.forget_sweep("earlier1")
    train(records, sweep, slots=3, pick=max)
    assert records.sweep(sweep).state is SweepState.COMPLETED
    cold = begin(records, "cold1", method=method, stopping=stopping, budget={"max_trials": 12})
    assert records.trials(cold)[0].params != records.trials(sweep)[0].params
    assert replay(records, records.sweep(sweep)).difference is None
    with sqlite3.connect(file) as raw:
        raw.execute(
            "update earlier set params = '{\"learning_rate\": 0.0002}', value = 0.01 where number > 3"
        )
    raw.close()
    assert "on record, but the replay gives" in (replay(records, records.sweep(sweep)).difference or "")


def test_it_decides_the_same_on_any_number_of_slots(records: Records) -> None:
    put(records, "earlier1", [{"learning_rate": 0.05 - 0.001 * n} for n in range(24)])
    tables = []
    for sweep, slots, pick in (("one1", 1, min), ("eight8", 8, max)):
        warmed(records, "earlier1", sweep, stopping=HALVING)
        train(records, sweep, slots, pick)
        tables.append([(one.number, one.params, one.value) for one in records.trials(sweep)])
    assert tables[0] == tables[1]


def test_a_trial_that_diverged_teaches_too(records: Records) -> None:
    put(records, "earlier1", [{"learning_rate": 0.01}])
    with records.deciding("earlier1") as decision:
        decision.add_trials([NewTrial(n, {"learning_rate": 0.09}, n, "one more") for n in (1, 2)])
    for number, cls in ((1, FailureClass.DIVERGED), (2, FailureClass.USER)):
        claim = records.claim(TrialKey("earlier1", number), "worker", LEASE_S)
        assert claim is not None
        records.fail(claim.key, Failure(cls, "the loss is NaN"))
    taken, told = take(records, "earlier1", spec_of())
    assert [(one.trial, one.value) for one in taken] == [(0, 1 / 3), (1, None)]
    assert told.left_out == {"they ended without a result": 1}


def test_submit_says_what_was_taken(folder: Path, shell: Any) -> None:
    content = json.loads((folder / "sweep.yaml").read_text())
    store = Records(f"sqlite:///{folder}/.kerasweep/store.db")
    wide = {"learning_rate": RATE | {"max": 9.0}}
    put(store, "earlier1", [{"learning_rate": 0.01}, {"learning_rate": 5.0}], parameters=wide)
    store.close()
    change = {"method": "tpe", "parameters": {"learning_rate": RATE}, "training": {"epochs": 3}}
    content |= change | {"budget": {"max_trials": 3}}
    (folder / "sweep.yaml").write_text(json.dumps(content))
    printed = json.loads(shell("submit", "sweep.yaml", "--warm-from", "earlier1", "-o", "json"))
    assert shell.code == 0
    assert "learns from 1 of the 2 trials of earlier1 (earlier1)" in shell.err
    assert "left out: 1 trial, since 'learning_rate' is outside the space" in shell.err
    assert printed["warm_start"]["taken"] == 1
    with Client(home=str(folder / ".kerasweep")) as client:
        assert client.sweep(printed["sweep"]).warm_start is not None
    shell("submit", "sweep.yaml", "--warm-from", "nowhere")
    assert shell.code == 2
    assert "no sweep fits 'nowhere'" in shell.err


def test_start_points_that_were_tried_before_are_said_to_be_trained_again() -> None:
    told = WarmStart("abc", "mlp", 8, 8, {}, [], 2)
    assert wording.warm_start(told)[-1] == (
        "2 start points of this sweep had been tried there; they are trained again"
    )

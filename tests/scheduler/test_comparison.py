"""`compare`: two sweeps side by side."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import a_sweep
from sqlalchemy import create_engine
from staged import Stage

from kerasweep import Client
from kerasweep.jobs.store.models import TrialRecord
from kerasweep.jobs.store.sql import schema as tables
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.evidence.comparison import improvements


def since_10(moments: Sequence[float]) -> list[float]:
    """A sweep that trains from second 10 to 70."""
    return [min(moment, 70.0) - 10.0 for moment in moments]


def ended(number: int, value: float | None, at: float, epochs: int = 2) -> TrialRecord:
    state = TrialState.COMPLETED if value is not None else TrialState.FAILED
    return TrialRecord(
        "abcd1234", number, state, {"units": number}, 0, 1, 0, "w", None, value, 1, epochs, {}, None, None,
        {}, 0.0, 0.0, at,
    )  # fmt: skip


def test_only_what_is_better_than_all_before_counts_in_the_order_of_ends() -> None:
    trials = [ended(0, 0.5, 40), ended(1, 0.6, 20), ended(2, None, 30), ended(3, 0.55, 35), ended(4, 0.5, 50)]
    found, spent_s = improvements(a_sweep(), trials, since_10)
    assert spent_s == 60
    assert [(one.trial, one.value, one.elapsed_s, one.epochs) for one in found] == [
        (1, 0.6, 10, 2),
        (3, 0.55, 25, 6),
        (0, 0.5, 30, 8),
    ]
    largest, _ = improvements(a_sweep(goal="maximize"), trials, since_10)
    assert [one.trial for one in largest] == [1]


def test_a_variant_counts_once_its_last_trial_has_ended() -> None:
    sweep = a_sweep()
    sweep = replace(sweep, spec=sweep.spec.model_copy(update={"repeats": 2}))
    trials = [ended(0, 0.5, 20), ended(1, 0.7, 60), ended(2, 0.8, 30), ended(3, 0.6, 40)]
    found, _ = improvements(sweep, trials, since_10)
    assert [(one.trial, one.value, one.elapsed_s, one.epochs) for one in found] == [
        (3, pytest.approx(0.7), 30, 4),
        (0, pytest.approx(0.6), 50, 8),
    ]


@pytest.fixture
def pair(stage: Stage) -> tuple[Sweep, Sweep]:
    """Two sweeps that differ in their space and seed; the second found the better trial."""
    ids = [stage.sweep(), stage.sweep(name="other", seed=8, parameters={"units": {"values": [50, 100]}})]
    for sweep, losses in zip(ids, [[0.3, 0.2], [0.25, 0.1]], strict=True):
        for number, loss in enumerate(losses):
            stage.complete(sweep, number, [0.9, loss])
    first, second = (Client().sweep(one) for one in ids)
    return first, second


def test_two_sweeps(pair: tuple[Sweep, Sweep], shell: Any) -> None:
    document = json.loads(shell("compare", "mlp", "other", "-o", "json"))
    assert list(document) == ["sweeps", "better", "note", "differences"]
    assert (document["better"], document["note"]) == (pair[1].id, None)
    assert list(document["sweeps"][0]) == [
        "sweep", "name", "state", "metric", "goal", "ended", "max_trials", "elapsed_s", "epochs", "params",
        "best_epoch", "curve", "reached_s", "reached_epochs", "value",
    ]  # fmt: skip
    assert [one["value"] for one in document["sweeps"][0]["curve"]] == [0.3, 0.2]
    assert [one["reached_epochs"] for one in document["sweeps"]] == [None, 4]
    assert document["differences"] == [
        {"key": "parameters.learning_rate", "values": [{"values": [0.01, 0.1]}, None]},
        {"key": "seed", "values": [7, 8]},
    ]
    table = shell("compare", "mlp", "other")
    assert "other (better)" in table
    assert "as good as the other's best after" in table
    assert "parameters.learning_rate  {values: [0.01, 0.1]}  –" in table
    rows = list(csv.DictReader(io.StringIO(shell("compare", "mlp", "other", "-o", "csv"))))
    assert [row["name"] for row in rows] == ["mlp", "other"]
    assert "<th>other</th>" in pair[0].compare(pair[1])._repr_html_()
    shown = pair[0].compare(pair[1])
    assert repr(shown).endswith("'other': val_loss 0.10000, 2 differences)")
    assert (shown.better, [one.sweep for one in shown.sweeps]) == (pair[1].id, [pair[0].id, pair[1].id])
    assert pair[0].compare(pair[0]).better is None
    assert [row for row in shown.rows() if "rate" in row[0]] == [("best learning_rate", "0.01", "–")]


def test_the_best_is_not_found_after_the_end_where_a_worker_was_lost(stage: Stage, shell: Any) -> None:
    sweep = stage.sweep()
    stage.claim(sweep, 0, [0.9])
    engine = create_engine(stage.settings.store)
    with engine.begin() as conn:  # it fell silent long before it was noticed
        conn.execute(tables.attempts.update().values(started_at=tables.attempts.c.started_at - 100))
        conn.execute(tables.epochs.update().values(at=tables.epochs.c.at - 90))
        conn.execute(tables.trials.update().values(lease_until=0.0))
    engine.dispose()
    stage.records.expire_leases()
    stage.complete(sweep, 0, [0.2])
    side = json.loads(shell("compare", sweep, sweep, "-o", "json"))["sweeps"][0]
    assert side["curve"][0]["elapsed_s"] <= side["elapsed_s"] < 90


def test_a_written_default_is_no_difference(stage: Stage) -> None:
    plain = {"training": {"epochs": 10, "early_stopping": {"patience": {"values": [2, 5]}}}}
    spelled = {
        "epochs": 10, "batch_size": 32, "learning_rate_schedule": "constant", "tensorboard": False,
        "early_stopping": {"patience": {"values": [2, 5]}, "monitor": "val_loss", "mode": "auto"},
    }  # fmt: skip
    other = {
        "epochs": 10, "batch_size": 64,
        "learning_rate_schedule": {"cosine": {"min_factor": {"values": [0, 0.5]}}},
        "early_stopping": {"patience": {"values": [2, 5]}, "mode": "max"},
    }  # fmt: skip
    first, second, third = (
        Client().sweep(stage.sweep(name=name, **more))
        for name, more in [("a", plain), ("b", {"training": spelled}), ("c", {"training": other})]
    )
    assert first.compare(second).differences == ()
    assert {one.key: one.texts() for one in first.compare(third).differences} == {
        "training.batch_size": ["32", "64"],
        "training.learning_rate_schedule": ["constant", "{cosine: {min_factor: {values: [0, 0.5]}}}"],
        "training.early_stopping": [
            "{patience: {values: [2, 5]}}",
            "{patience: {values: [2, 5]}, mode: max}",
        ],
    }


def test_that_one_learned_from_an_earlier_sweep_is_told(pair: tuple[Sweep, Sweep], stage: Stage) -> None:
    first = pair[0].record
    source = {**first.source, "warm": {"sweep": pair[1].id}}
    stage.records.create_sweep(replace(first, id="feed1234", name="warm", source=source))
    shown = pair[0].compare(Client().sweep("warm"))
    assert [(one.key, one.texts()) for one in shown.differences] == [("warm_from", ["–", pair[1].id])]


def test_a_plot(pair: tuple[Sweep, Sweep], shell: Any, tmp_path: Path) -> None:
    shell("compare", "mlp", "other", "--plot", "both.svg")
    assert (shell.code, shell.err) == (0, "wrote both.svg\n")
    drawn = (tmp_path / "both.svg").read_text()
    assert all(
        one in drawn for one in ("seconds of training", "epochs of all trials", f"other ({pair[1].id})")
    )
    shell("compare", "mlp", "other", "--plot", "both.pdf")
    assert shell.code == 2
    assert "a plot is a file that ends in .png, .svg, .html" in shell.err


def test_what_cannot_be_compared_is_told(pair: tuple[Sweep, Sweep], stage: Stage, shell: Any) -> None:
    stage.sweep(name="empty")
    assert "a sweep can be compared once a trial has ended with a value" in shell("compare", "mlp", "empty")
    stage.complete(stage.sweep(name="largest", metric={"name": "val_loss", "goal": "maximize"}), 0)
    told = "the values are of different metrics, minimize val_loss and maximize val_loss"
    assert told in shell("compare", "mlp", "largest")
    shell("compare", "mlp", "largest", "--plot", "both.png")
    assert (shell.code, told in shell.err) == (1, True)
    assert "The sweep files and the code are the same." in shell("compare", "mlp", "mlp")

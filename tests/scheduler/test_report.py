"""The documents that other programs rely on, and the wording in tables."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from kerasweep.jobs.store.models import ProcessRecord, Result
from kerasweep.jobs.trial import SweepState, TrialKey, TrialState
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.objects import Status, Trial
from kerasweep.scheduler.show import repeated, tables
from kerasweep.scheduler.show.curves import Curve, draw, pair_up, spread

STATES = ["queued", "running", "paused", "waiting", "completed", "stopped", "failed", "cancelled"]


def test_status_has_the_promised_keys(stage: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 0)
    record, best = stage.records.sweep(sweep), stage.records.trial(TrialKey(sweep, 0))
    document = report.status_document(Status.of(record, stage.records.counts(sweep), best, elapsed_s=5.0))
    assert {name: document[name] for name in ("sweep", "name", "state")} == {
        "sweep": sweep,
        "name": "mlp",
        "state": "running",
    }
    assert document["trials"] == dict.fromkeys(STATES, 0) | {"queued": 7, "completed": 1}
    params = {"learning_rate": 0.01, "units": 50, "training.early_stopping.patience": 2}
    assert document["best"] == {"trial": 0, "value": 0.3, "epoch": 2, "params": params}
    assert document["elapsed_s"] == 5.0
    assert document["finished_at"] is None
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_status_without_a_value_has_no_best(stage: Any) -> None:
    record = stage.records.sweep(stage.sweep())
    document = report.status_document(Status.of(record, stage.records.counts(record.id), None))
    assert document["best"] is None


def test_a_trial_has_the_promised_keys(stage: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 1)
    document = report.trial_document(Trial.of(stage.records.trial(TrialKey(sweep, 1))))
    promised = {
        "trial": 1,
        "state": "completed",
        "params": {"learning_rate": 0.01, "units": 50, "training.early_stopping.patience": 5},
        "value": 0.3,
        "best_epoch": 2,
        "epochs": 3,
        "metrics": {"loss": 0.15, "val_loss": 0.3},
        "attempts": 1,
        "failure": None,
        "digest": f"{1:064d}",
        "seed": 101,
    }
    assert document | promised == document


def test_a_failed_trial_says_why(stage: Any) -> None:
    sweep = stage.sweep()
    stage.fail(sweep, 2)
    document = report.trial_document(Trial.of(stage.records.trial(TrialKey(sweep, 2))))
    assert document["failure"] == {"class": "diverged", "message": "the loss became NaN in epoch 2"}
    assert (document["state"], document["value"], document["best_epoch"]) == ("failed", None, None)


def test_documents_are_json_whatever_a_metric_became(stage: Any) -> None:
    sweep = stage.sweep()
    key, _ = stage.claim(sweep, 0, [1.0])
    result = Result(TrialState.COMPLETED, math.inf, 1, 1, {"val_loss": math.inf, "loss": math.nan}, "d")
    stage.records.finish(key, result)
    document = report.trial_document(Trial.of(stage.records.trial(TrialKey(sweep, 0))))
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text)["metrics"] == {"val_loss": "inf", "loss": "nan"}
    assert json.loads(text)["value"] == "inf"


def test_result_tells_where_a_model_came_from(stage: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 3)
    trial = stage.records.trial(TrialKey(sweep, 3))
    model = stage.records.artifacts(sweep, 3, "model")[3][0]
    document = report.result_document(stage.records.sweep(sweep), trial, model, version="1.2.3")
    assert document["git"] == {"commit": "c0ffee", "dirty": True}
    assert document["versions"] == {"keras": "3.15.1", "kerasweep": "1.2.3"}
    assert document["device"] == "cpu"
    assert document["model"] == {"file": "model.keras", "sha256": model.sha256, "bytes": model.bytes}
    assert document["training"]["early_stopping"]["patience"] == 5, (
        "the trial's own value, not the distribution"
    )
    assert document["seed"] == 103


def worker(*queues: str, gpus: int = 0) -> ProcessRecord:
    return ProcessRecord("worker-1", {"queues": list(queues), "gpus_per_trial": gpus}, 1.0)


SCHEDULERS = [ProcessRecord("scheduler-1", {}, 1.0)]


def test_waiting_says_what_is_missing(stage: Any) -> None:
    sweep = stage.sweep(resources={"gpus": 2})
    record, counts = stage.records.sweep(sweep), stage.records.counts(sweep)
    assert report.waiting_reason(record, counts, [], SCHEDULERS) == report.NO_WORKER
    assert report.waiting_reason(record, counts, [worker("train.cpu")], []) == report.NO_SCHEDULER
    reason = report.waiting_reason(record, counts, [worker("train.cpu")], SCHEDULERS)
    assert reason is not None
    assert "asks for 2 GPUs" in reason
    assert "--gpus-per-trial 2" in reason
    both = [worker("train.cpu", "train.2gpu", gpus=2)], SCHEDULERS
    assert report.waiting_reason(record, counts, *both) is None


def test_a_sweep_that_nobody_trains_says_what_goes_on_with_it(stage: Any) -> None:
    record = stage.records.sweep(stage.sweep())
    for counts in ({TrialState.QUEUED: 8}, {TrialState.RUNNING: 6, TrialState.QUEUED: 2}, {}):
        here = report.waiting_reason(record, counts, [], [], embedded=True)
        assert here == (
            "nothing trains it: no scheduler and no worker is alive; "
            "`kerasweep run --resume mlp` resumes it, or `kerasweep scheduler` and `kerasweep worker` do"
        )
        there = report.waiting_reason(record, counts, [], [])
        assert there is not None
        assert "start `kerasweep scheduler` and `kerasweep worker`" in there


def test_who_keeps_a_worker_running_is_not_told_to_start_one(stage: Any) -> None:
    record = stage.records.sweep(stage.sweep())
    counts = {TrialState.QUEUED: 8}
    assert report.waiting_reason(record, counts, [], [], embedded=True, kept=True) == report.STARTING
    assert report.waiting_reason(record, counts, [worker("train.cpu")], [], kept=True) is None


def test_nothing_waits_where_trials_run_or_all_have_ended(stage: Any) -> None:
    sweep = stage.sweep()
    record = stage.records.sweep(sweep)
    busy = {TrialState.RUNNING: 1, TrialState.QUEUED: 3}
    both = [worker("train.cpu")], SCHEDULERS
    assert report.waiting_reason(record, busy, *both) is None
    assert report.waiting_reason(record, {TrialState.COMPLETED: 8}, *both) is None
    stage.end(sweep, SweepState.CANCELLED)
    assert report.waiting_reason(stage.records.sweep(sweep), {TrialState.QUEUED: 3}, [], []) is None


def test_a_sweep_that_only_has_to_be_ended_says_who_does(stage: Any) -> None:
    record, ended = stage.records.sweep(stage.sweep()), {TrialState.COMPLETED: 7, TrialState.FAILED: 1}
    for embedded, way in ((True, "`kerasweep run --resume mlp`"), (False, "`kerasweep scheduler`")):
        reason = report.waiting_reason(record, ended, [], [], embedded=embedded)
        assert reason == f"every trial has ended, but no scheduler is alive to end the sweep; {way} does"
    assert report.waiting_reason(record, ended, [], SCHEDULERS) is None, "it is about to"


def test_a_paused_sweep_says_how_it_goes_on(stage: Any) -> None:
    sweep = stage.sweep()
    stage.end(sweep, SweepState.PAUSED)
    record, counts = stage.records.sweep(sweep), {TrialState.PAUSED: 3}
    reason = report.waiting_reason(record, counts, [worker("train.cpu")], SCHEDULERS, embedded=True)
    assert reason == "the sweep is paused; `kerasweep resume mlp` resumes it"
    reason = report.waiting_reason(record, counts, [], [], embedded=True)
    assert reason == "the sweep is paused; `kerasweep run --resume mlp` resumes it"


def test_flat_keeps_the_values_of_parameters_whole() -> None:
    document = {
        "trial": 1,
        "params": {"training.schedule": {"step_decay": {"every": 10}}},
        "failure": {"class": "x"},
    }
    assert report.flat(document) == {
        "trial": 1,
        "params.training.schedule": {"step_decay": {"every": 10}},
        "failure.class": "x",
    }


def test_predictions_become_rows() -> None:
    assert report.prediction_documents([[0.1, 0.9], [0.8, 0.2]]) == [
        {"row": 0, "0": 0.1, "1": 0.9},
        {"row": 1, "0": 0.8, "1": 0.2},
    ]
    assert report.prediction_documents({"main": [[1.0]], "aux": [[2.0]]}) == [
        {"row": 0, "main.value": 1.0, "aux.value": 2.0}
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (0.0027021449, "0.002702"),
        (True, "true"),
        (None, "–"),
        ("relu", "relu"),
        ([1, 2.0], "[1, 2]"),
        ({"step_decay": {"every": 10, "factor": 0.1}}, "step_decay(every=10, factor=0.1)"),
        ("x" * 60, "x" * 39 + "…"),
    ],
)
def test_values_read_well(given: Any, text: str) -> None:
    assert wording.value(given) == text


def test_brief_values_leave_names_out() -> None:
    assert wording.brief({"step_decay": {"every": 10, "factor": 0.1}}) == "step_decay(10, 0.1)"
    assert wording.brief(0.5) == "0.5"


def test_short_names_stay_unique() -> None:
    names = [
        "units",
        "training.early_stopping.patience",
        "training.reduce_on_plateau.patience",
        "training.epochs",
    ]
    assert list(wording.short_names(names).values()) == [
        "units",
        "early_stopping.patience",
        "reduce_on_plateau.patience",
        "epochs",
    ]
    assert wording.short_names(["epochs", "training.epochs"]) == {
        "epochs": "epochs",
        "training.epochs": "training.epochs",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.85, "850 ms"),
        (12.9, "12 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
        (None, "–"),
    ],
)
def test_durations_read_well(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


def test_bars_and_sizes() -> None:
    assert wording.bar(0.5, 4) == "━━──"
    assert wording.bar(7.0, 4) == "━━━━"
    assert (wording.size(512), wording.size(1_500_000)) == ("512 B", "1.4 MiB")
    assert (wording.count(1, "trial"), wording.count(0, "trial")) == ("1 trial", "0 trials")


def test_done_counts_what_has_ended() -> None:
    assert tables.done(dict.fromkeys(STATES, 1)) == 4


def test_curves_pair_training_with_validation() -> None:
    assert pair_up(["loss", "accuracy", "val_loss", "val_auc"]) == [
        ("loss", "val_loss"),
        ("accuracy",),
        ("val_auc",),
    ]


def test_a_falling_curve_falls() -> None:
    lines = draw(Curve("loss", [(1, 1.0), (2, 0.5), (3, 0.0)]), width=8, height=4)
    assert len(lines) == 5
    assert lines[0].startswith("1.0000 ┤")
    assert lines[0].split("┤")[1].strip(), "the curve begins in the upper line"
    assert not lines[0].split("┤")[1][-1].strip(), "and has left it at the end"
    assert lines[3].split("┤")[1][-1].strip(), "where it has come down"
    assert lines[4].split() == ["1", "3"]


def test_curves_survive_odd_values() -> None:
    assert draw(Curve("loss", [(1, math.nan)]), 8, 4) == ["loss: no finite value"]
    assert len(draw(Curve("loss", [(1, 0.5)]), 8, 4)) == 5
    assert spread([Curve("loss", [(1, 0.5), (2, math.inf)])]) == (0.45, 0.55)


@pytest.mark.parametrize("width", [72, 200])
def test_a_table_of_many_parameters_fits_its_terminal(width: int) -> None:
    params = {f"parameter_{number}": number / 7 for number in range(8)}
    document = {
        "trial": 3, "state": "completed", "params": params, "value": 0.25, "best_epoch": 2, "epochs": 3,
        "attempts": 1, "failure": None,
    }  # fmt: skip
    console = Console(file=StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(tables.trials([document], "val_loss"))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for name, value in params.items():
        assert name in words, "no heading is cut"
        assert (f"{name}={value:.4g}" in words) == (width == 72)


def listed(number: int) -> dict[str, Any]:
    created_at = datetime.fromtimestamp(0, UTC).isoformat()
    counts = dict.fromkeys(("completed", "stopped", "failed", "cancelled"), 3)
    return {
        "name": f"a-sweep-with-a-name-{number}", "sweep": f"dc0d201{number}", "state": "completed",
        "trials": counts, "max_trials": 100, "metric": {"name": "val_accuracy"}, "best": {"value": 0.91234},
        "created_at": created_at,
    }  # fmt: skip


def repeated_trial(number: int) -> dict[str, Any]:
    params = {
        "learning_rate": 0.03 / 7 * number,
        "training.learning_rate_schedule": "cosine",
        "units": number,
    }
    return {
        "trial": number, "variant": number, "state": "completed", "params": params, "value": 0.15275,
        "mean": 0.16289, "std": 0.0073, "values": [0.1, 0.2, 0.3, None], "trials": [0, 1, 2, 3],
        "probability": 0.12, "best_epoch": 3, "epochs": 10, "attempts": 1,
        "failure": {"class": "diverged", "message": "the loss became NaN in epoch 2"},
    }  # fmt: skip


@pytest.mark.parametrize("width", [60, 72, 80, 100, 160])
def test_a_narrow_terminal_lacks_columns_rather_than_figures(width: int) -> None:
    again = [repeated_trial(number) for number in (1, 2)]
    head = {"metric": {"name": "val_loss"}, "stands": None, "verdict": "", "notes": [], "paired": 3}
    shown = [
        (
            repeated.certificate({**head, "variants": again}),
            ["0.15275", "0.16289", "0.0073", "3 of 4", "at most 0.13"],
        ),
        (repeated.variants(again, "val_loss"), ["completed", "0.15275", "0.0073"]),
        (tables.trials(again, "val_loss"), ["completed", "0.15275", "3"]),
        (tables.sweeps([listed(1), listed(2)], 90_000.0), ["dc0d2011", "completed", "0.91234"]),
    ]
    for table, whole in shown:
        console = Console(file=StringIO(), width=width, color_system=None)
        with console.capture() as capture:
            console.print(table)
        text = capture.get()
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
        assert [one for one in whole if one not in text] == []

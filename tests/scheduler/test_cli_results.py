"""fetch, plot, show: what they write, check and refuse; evaluate, predict and export in a child process."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

MODEL = "model of trial 1"


@pytest.fixture
def sweep(stage: Any) -> str:
    """A sweep with two trials that count; trial 1 is the better one."""
    made: str = stage.sweep()
    stage.complete(made, 0, [0.5, 0.4])
    stage.complete(made, 1, [0.5, 0.2, 0.3])
    stage.fail(made, 2)
    return made


def test_fetch_writes_the_winner_and_its_story(sweep: str, tmp_path: Path, shell: Any) -> None:
    assert "trial 1" in shell("fetch", "mlp", "winner")
    assert shell.code == 0
    assert (tmp_path / "winner" / "model.keras").read_text() == MODEL
    result = json.loads((tmp_path / "winner" / "result.json").read_text())
    assert (result["sweep"], result["trial"], result["seed"], result["value"]) == (sweep, 1, 101, 0.2)
    assert result["params"] == {"learning_rate": 0.01, "units": 50, "training.early_stopping.patience": 5}
    assert result["metrics"] == {"loss": 0.1, "val_loss": 0.2}
    assert result["git"] == {"commit": "c0ffee", "dirty": True}
    assert result["device"] == "cpu"
    assert result["versions"]["keras"] == "3.15.1"


def test_fetch_as_json(sweep: str, shell: Any) -> None:
    document = json.loads(shell("fetch", "mlp", "first", "--trial", "0", "-o", "json"))
    assert (document["trial"], document["files"]) == (0, ["model.keras", "result.json"])


def test_fetch_again_is_welcome_but_not_over_another_trial(sweep: str, tmp_path: Path, shell: Any) -> None:
    shell("fetch", "mlp", "winner")
    shell("fetch", "mlp", "winner")
    assert shell.code == 0
    shell("fetch", "mlp", "winner", "--trial", "0")
    assert shell.code == 2
    assert "--force" in shell.err
    assert (tmp_path / "winner" / "model.keras").read_text() == MODEL


def test_fetch_refuses_a_folder_that_holds_something_else(sweep: str, tmp_path: Path, shell: Any) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    shell("fetch", "mlp", "full")
    assert shell.code == 2
    assert "thesis.tex" in shell.err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    shell("fetch", "mlp", "full", "--force")
    assert shell.code == 0
    assert (tmp_path / "full" / "thesis.tex").read_text() == "precious"
    shell("fetch", "mlp", "full/thesis.tex", "--force")
    assert shell.code == 2


def test_fetch_checks_the_bytes(sweep: str, stage: Any, tmp_path: Path, shell: Any) -> None:
    [model] = stage.records.artifacts(sweep, 1, "model")[1]
    stage.artifacts.put(model.key, b"model of trial X")
    shell("fetch", "mlp", "winner")
    assert shell.code == 1
    assert "SHA-256" in shell.err
    assert not (tmp_path / "winner" / "model.keras").exists()
    stage.artifacts.delete(model.key)
    shell("fetch", "mlp", "other")
    assert shell.code == 1
    assert not (tmp_path / "other" / "model.keras").exists()


def test_fetch_says_why_there_is_no_model(sweep: str, shell: Any) -> None:
    shell("fetch", "mlp", "failed", "--trial", "2")
    assert shell.code == 1
    assert "the loss became NaN in epoch 2" in shell.err
    shell("fetch", "mlp", "queued", "--trial", "5")
    assert shell.code == 1
    assert "it is queued" in shell.err


def test_fetch_knows_its_formats(sweep: str, shell: Any) -> None:
    shell("fetch", "mlp", "winner", "--format", "caffe")
    assert shell.code == 2
    assert "onnx" in shell.err


def test_show_draws_curves_and_says_what_it_cannot_see(sweep: str, shell: Any) -> None:
    shown = shell("show", "mlp", "1", "--no-layers")
    assert "val_loss" in shown
    assert "┤" in shown
    document = json.loads(shell("show", "mlp", "1", "--no-layers", "-o", "json"))
    assert [epoch["val_loss"] for epoch in document["curves"]] == [0.5, 0.2, 0.3]
    assert document["model"] is None


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_plots_are_drawn(sweep: str, tmp_path: Path, shell: Any, ending: str) -> None:
    heads = {"png": b"\x89PNG", "svg": b"<", "html": b"<!doctype html>"}
    shell("plot", "mlp", f"out/sweep.{ending}")
    assert shell.code == 0, shell.err
    shell("plot", "mlp", "1", f"trial.{ending}")
    assert shell.code == 0, shell.err
    for path in (tmp_path / "out" / f"sweep.{ending}", tmp_path / f"trial.{ending}"):
        assert path.read_bytes().startswith(heads[ending])
        assert path.stat().st_size > 5000


def test_one_view_of_a_sweep(sweep: str, tmp_path: Path, shell: Any) -> None:
    shell("plot", "mlp", "history.svg", "--view", "history")
    shell("plot", "mlp", "all.svg")
    assert (tmp_path / "history.svg").stat().st_size < (tmp_path / "all.svg").stat().st_size


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("plot", "mlp", "sweep.gif"), 2),
        (("plot", "mlp", "one", "trial.png"), 2),
        (("plot", "mlp", "5", "trial.png"), 1),
        (("plot", "mlp", "sweep.png", "--view", "pie"), 2),
    ],
    ids=["ending", "no number", "no epochs", "view"],
)
def test_plots_that_cannot_be_drawn(sweep: str, shell: Any, words: tuple[str, ...], code: int) -> None:
    shell(*words)
    assert (shell.code, shell.out) == (code, "")


def test_a_plot_of_a_sweep_needs_values(stage: Any, shell: Any) -> None:
    stage.sweep()
    shell("plot", "mlp", "sweep.png")
    assert shell.code == 1
    assert "needs 2 trials with a value" in shell.err


def test_without_tensorflow_the_layers_are_said_to_be_missing(
    sweep: str, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasweep.scheduler.local.children.has_keras", lambda: False)
    assert "The layers are not shown" in shell("show", "mlp", "1")
    shown = shell("show", "mlp", "2")
    assert shown.count("the loss became NaN") == 1
    assert "`kerasweep logs mlp 2` shows what it printed" in shown
    assert shell.code == 0
    for words in (("evaluate", "mlp"), ("predict", "mlp"), ("fetch", "mlp", "x", "--format", "onnx")):
        shell(*words)
        assert shell.code == 2
        assert "pip install 'kerasweep[worker]'" in shell.err


def test_a_job_without_test_data_is_evaluated_on_its_validation_data(
    sweep: str, stage: Any, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext
    from types import SimpleNamespace

    reply = {"data": "validation", "metrics": {"loss": 0.25}}
    bench = SimpleNamespace(evaluate=lambda data: reply if data is None else {**reply, "data": data})
    monkeypatch.setattr("kerasweep.scheduler.client.sweep.Sweep.bench", lambda *_: nullcontext(bench))
    shown = shell("evaluate", "mlp")
    assert "the job has no test data: evaluated on its validation data" in shell.err
    assert shown.splitlines()[0].split("  ")[:3] == ["metric", "validation now", "recorded validation"]
    shell("evaluate", "mlp", "--data", "validation")
    assert shell.err == ""


def test_evaluate_knows_the_parts(sweep: str, shell: Any) -> None:
    shell("evaluate", "mlp", "--data", "weather")
    assert shell.code == 2
    assert "validation" in shell.err


JOB = """
import keras
import numpy as np


def load_data():
    x = np.arange(12, dtype="float32").reshape(6, 2) / 12
    return {"train": (x, x.sum(axis=1)), "validation": (x, x.sum(axis=1)), "test": (x, x.sum(axis=1))}


def build_model(learning_rate=0.1, units=100):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model
"""

TRAIN = """
import sys
from train import build_model
build_model().save(sys.argv[1])
"""


@pytest.mark.tf
def test_a_real_model_is_shown_evaluated_used_and_exported(stage: Any, tmp_path: Path, shell: Any) -> None:
    import subprocess
    import sys

    from kerasweep.jobs.code.bundle import bundle
    from kerasweep.jobs.store.artifacts import ArtifactRef
    from kerasweep.jobs.store.models import Result
    from kerasweep.jobs.trial import TrialState

    (tmp_path / "train.py").write_text(JOB)
    subprocess.run(
        [sys.executable, "-c", TRAIN, "model.keras"], cwd=tmp_path, check=True, capture_output=True
    )
    packed = bundle(tmp_path / "train.py")
    sweep = stage.sweep()
    stage.artifacts.put("bundles/0.zip", packed.data)
    _set_bundle(stage, sweep, packed.sha256)
    key, _ = stage.claim(sweep, 0, [0.5])
    sha256, size = stage.artifacts.put_file("real/model.keras", tmp_path / "model.keras")
    model = ArtifactRef("model", "real/model.keras", sha256, size, 1)
    stage.records.finish(
        key, Result(TrialState.COMPLETED, 0.5, 1, 1, {"loss": 0.4, "val_loss": 0.5}, "d", model)
    )

    *_, dense, total = shell("show", "mlp").splitlines()
    assert "Dense" in dense
    assert total.split()[-1] == "3"
    measured = json.loads(shell("evaluate", "mlp", "-o", "json"))
    assert (measured["data"], shell.err) == ("test", "")
    assert measured["metrics"]["loss"] >= 0
    assert measured["recorded"] == {"loss": 0.4, "val_loss": 0.5}
    rows = list(csv.DictReader(io.StringIO(shell("predict", "mlp", "--limit", "4", "-o", "csv"))))
    assert len(rows) == 4
    fetched = json.loads(shell("fetch", "mlp", "weights", "--format", "weights.h5", "-o", "json"))
    assert fetched["export"]["max_abs_deviation"] <= fetched["export"]["tolerance"]
    assert {path.name for path in (tmp_path / "weights").iterdir()} == set(fetched["files"])


def _set_bundle(stage: Any, sweep: str, sha256: str) -> None:
    from sqlalchemy import create_engine

    from kerasweep.jobs.store.sql import schema as tables

    engine = create_engine(stage.settings.store)
    with engine.begin() as conn:
        conn.execute(tables.sweeps.update().where(tables.sweeps.c.id == sweep).values(bundle_sha256=sha256))
    engine.dispose()

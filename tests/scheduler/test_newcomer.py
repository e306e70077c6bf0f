"""What a new user tries on the first day."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kerasweep.jobs.sweepfile.json_schema import json_schema
from kerasweep.jobs.trial import SweepState

if TYPE_CHECKING:
    from tests.scheduler.conftest import Shell, Stage


def test_a_folder_stands_for_the_sweep_file_in_it(folder: Path, shell: Shell) -> None:
    shell("submit", str(folder), "-o", "json")
    assert shell.code == 0, shell.err
    (folder / "empty").mkdir()
    shell("submit", "empty")
    assert shell.code == 2
    assert "a folder must hold a sweep.yaml, and empty holds none" in shell.err


def test_a_dry_run_shows_the_first_trials_and_writes_nothing(folder: Path, shell: Shell) -> None:
    before = sorted(folder.rglob("*"))
    found = json.loads(shell("submit", "sweep.yaml", "--dry-run", "-o", "json"))
    assert shell.code == 0, shell.err
    assert [one["trial"] for one in found] == list(range(len(found)))
    assert all(one["params"] for one in found)
    assert "can be submitted: up to" in shell.err
    assert sorted(folder.rglob("*")) == before


def test_watch_prints_lines_of_csv(stage: Stage, shell: Shell) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 0)
    stage.complete(sweep, 1)
    stage.end(sweep, SweepState.COMPLETED)
    rows = list(csv.DictReader(io.StringIO(shell("watch", "mlp", "-o", "csv"))))
    assert [(row["trial"], row["state"]) for row in rows] == [("0", "completed"), ("1", "completed")]
    assert shell("watch", "mlp", "-o", "yaml").count("---\n") == 2


def test_a_trial_is_named_by_its_place_or_by_a_flag(stage: Stage, shell: Shell, tmp_path: Path) -> None:
    sweep = stage.sweep()
    for trial in (0, 1):
        stage.complete(sweep, trial, [0.5 + trial])
    stage.end(sweep, SweepState.COMPLETED)
    assert shell("show", "mlp", "1", "--no-layers") == shell("show", "mlp", "--trial", "1", "--no-layers")
    for number, words in enumerate((("--trial", "1"), ("1",))):
        shell("fetch", "mlp", str(tmp_path / f"out{number}"), *words)
        assert shell.code == 0, shell.err
        assert json.loads((tmp_path / f"out{number}" / "result.json").read_text())["trial"] == 1
    shell("show", "mlp", "1", "--trial", "0")
    assert shell.code == 2


def test_predict_looks_at_its_input_first(stage: Stage, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("1", encoding="utf-8")
    for name in ("rows.txt", "missing.npy"):
        shell("predict", "mlp", "--input", name)
        assert shell.code == 2
        assert f"got {name}" in shell.err


def test_the_schema_knows_the_rule_for_names() -> None:
    pattern = re.compile(json_schema()["properties"]["name"]["pattern"])
    assert pattern.search("fashion-mlp.2")
    assert not any(map(pattern.search, ("", "-a", "a b", "a/b", "a" * 101)))


def test_init_mentions_force(folder: Path, shell: Shell) -> None:
    for words, code in (((), 0), ((), 2), (("--force",), 0)):
        shell("init", "mlp", "first", *words)
        assert shell.code == code
        assert code == 0 or "--force" in shell.err


@pytest.mark.parametrize("columns", ["40", "60"])
def test_a_narrow_terminal_keeps_what_varies(
    stage: Stage, shell: Shell, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from kerasweep.scheduler.show import tables

    documents = [
        {"trial": n, "state": "queued", "params": {"constant": "x" * 60, "rate": 0.5 + n}, "value": None,
         "best_epoch": None, "epochs": 0, "attempts": 0, "failure": None} for n in range(2)
    ]  # fmt: skip
    console = Console(width=int(columns), file=io.StringIO())
    with console.capture() as capture:
        console.print(tables.trials(documents, "val_loss"))
    assert "rate=0.5" in capture.get()
    assert "constant" not in capture.get()

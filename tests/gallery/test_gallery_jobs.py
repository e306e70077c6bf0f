"""Each entry is a plain Keras program that learns, and a sweep file that fits it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.gallery_index import copy_entry, list_gallery
from kerasweep.jobs.program import check, read_program
from kerasweep.jobs.spec import load_spec

Missed = Callable[[str, Mapping[str, float]], list[str]]
PLAIN = Path(__file__).with_name("plain.py")


def train(entry: str, folder: Path, env: Mapping[str, str], *flags: str) -> dict[str, Any]:
    """Train an entry's copy in a child; return what it printed."""
    copy_entry(entry, folder)
    command = [sys.executable, str(PLAIN), str(folder), *flags]
    child = subprocess.run(command, capture_output=True, text=True, env=dict(env), cwd=folder, timeout=250)
    assert child.returncode == 0, child.stderr
    report: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return report


def best_metrics(entry: str, folder: Path, history: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the metrics of the best epoch by the sweep's metric."""
    metric = load_spec(folder / "sweep.yaml").metric
    pick = min if metric.goal == "minimize" else max
    epoch = pick(range(len(history[metric.name])), key=history[metric.name].__getitem__)
    return {name: values[epoch] for name, values in history.items()}


def test_every_entry_has_bounds_and_a_bound_on_the_sweeps_metric(tmp_path: Path) -> None:
    import yaml

    bounds = yaml.safe_load(Path(__file__).with_name("bounds.yaml").read_text(encoding="utf-8"))
    assert [one.name for one in list_gallery()] == sorted(bounds)
    for name, rules in bounds.items():
        copy_entry(name, tmp_path / name)
        metric = load_spec(tmp_path / name / "sweep.yaml").metric
        how = "at_most" if metric.goal == "minimize" else "at_least"
        assert next(iter(rules)) == metric.name
        assert list(rules[metric.name]) == [how]


def test_the_sweep_file_fits_the_job(entry: str, tmp_path: Path) -> None:
    copy_entry(entry, tmp_path)
    spec = load_spec(tmp_path / "sweep.yaml")
    program = read_program(tmp_path / spec.job)
    check(spec, program)
    assert spec.name == entry.replace("_", "-")
    for arguments in program.functions.values():
        assert not arguments.required, "a job of the gallery has a default for every parameter"


def test_the_job_imports_nothing_of_kerasweep(entry: str, tmp_path: Path) -> None:
    for file in copy_entry(entry, tmp_path):
        if file.suffix == ".py":
            tree = ast.parse(file.read_text(encoding="utf-8"))
            imported = [
                name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
            ]
            imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            assert imported
            assert not [name for name in imported if name.partition(".")[0] == "kerasweep"]


@pytest.mark.tf
def test_the_job_learns_by_plain_keras(
    entry: str, tmp_path: Path, offline: Mapping[str, str], missed: Missed
) -> None:
    report = train(entry, tmp_path, offline)
    assert missed(entry, best_metrics(entry, tmp_path, report["history"])) == []
    assert report["kerasweep"] == []
    assert report["apart"] == 0.0, "the saved model must load again as the same"


@pytest.mark.tf
@pytest.mark.slow
def test_a_broken_job_would_miss_the_bound(
    entry: str, tmp_path: Path, offline: Mapping[str, str], missed: Missed
) -> None:
    report = train(entry, tmp_path, offline, "--broken")
    metric = load_spec(tmp_path / "sweep.yaml").metric.name
    lines = missed(entry, best_metrics(entry, tmp_path, report["history"]))
    assert any(line.startswith(f"{metric} ") for line in lines), report["history"][metric]

"""Each entry is a plain Keras program that learns, with a matching sweep file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from selection import with_quick

from kerasweep.jobs.code.program import check, read_program
from kerasweep.jobs.gallery_index import copy_entry, list_gallery
from kerasweep.jobs.sweepfile.spec import load_spec

Missed = Callable[[str, Mapping[str, float]], list[str]]
PLAIN = Path(__file__).with_name("plain.py")
ENTRIES = [entry.name for entry in list_gallery()]
#: Trained in `make test`: a small network, one with its own training step, one on a table.
QUICK = ("fashion_mlp", "custom_step", "tabular")


@pytest.fixture(scope="module")
def trained(
    offline: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Return a function that trains an entry's copy, once, in a child, and returns what it printed."""
    errors = tmp_path_factory.mktemp("plain") / "errors.txt"
    with (
        errors.open("w") as log,
        subprocess.Popen(
            [sys.executable, str(PLAIN)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=dict(offline),
            cwd=errors.parent,
        ) as child,
    ):

        @cache
        def train(entry: str) -> dict[str, Any]:
            folder = tmp_path_factory.mktemp(entry)
            copy_entry(entry, folder)
            assert child.stdin
            assert child.stdout
            child.stdin.write(f"{folder}\n")
            child.stdin.flush()
            for line in child.stdout:
                if line.startswith("{"):  # a job may print as well
                    metric = load_spec(folder / "sweep.yaml").metric
                    return {**json.loads(line), "metric": metric.name, "goal": metric.goal}
            pytest.fail(errors.read_text())

        yield train


def best_metrics(report: Mapping[str, Any], which: str) -> dict[str, float]:
    """Return the metrics of a history's best epoch by the sweep's metric."""
    history = report[which]
    values = history[report["metric"]]
    epoch = values.index((min if report["goal"] == "minimize" else max)(values))
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


def test_the_sweep_file_matches_the_job(entry: str, tmp_path: Path) -> None:
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
@pytest.mark.parametrize("entry", with_quick(ENTRIES, QUICK))
def test_the_job_learns_by_plain_keras(
    entry: str, trained: Callable[[str], dict[str, Any]], missed: Missed
) -> None:
    report = trained(entry)
    assert missed(entry, best_metrics(report, "history")) == []
    assert report["kerasweep"] == []
    assert report["apart"] == 0.0, "the saved model must load again as the same"


@pytest.mark.tf
@pytest.mark.parametrize("entry", with_quick(ENTRIES, QUICK))
def test_a_broken_job_would_miss_the_bound(
    entry: str, trained: Callable[[str], dict[str, Any]], missed: Missed
) -> None:
    report = trained(entry)
    lines = missed(entry, best_metrics(report, "broken"))
    assert any(line.startswith(f"{report['metric']} ") for line in lines), report["broken"]

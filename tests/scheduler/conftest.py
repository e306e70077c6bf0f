"""Recorded sweeps without any training, for the command line and the client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from staged import JOB, SWEEP, Stage
from typer.testing import CliRunner

from kerasweep.jobs.store.records import Records
from kerasweep.scheduler.cli.entry import app
from kerasweep.scheduler.samplers.requirements import missing


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Separate records, in a folder that commands find by default."""
    for name in ("BROKER_URL", "STORE_URL", "ARTIFACTS_URL"):
        monkeypatch.delenv(f"KERASWEEP_{name}", raising=False)
    write_job(tmp_path)
    home = tmp_path / ".kerasweep"
    monkeypatch.setenv("KERASWEEP_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    made = Stage(home)
    yield made
    made.records.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where `records` are."""
    return tmp_path / "store.db"


@pytest.fixture
def records(file: Path) -> Iterator[Records]:
    """Records in a file, without trials."""
    found = Records(f"sqlite:///{file}")
    yield found
    found.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sweep file and its job, where commands run; there is no store yet."""
    for name in ("HOME", "BROKER_URL", "STORE_URL", "ARTIFACTS_URL"):
        monkeypatch.delenv(f"KERASWEEP_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    return tmp_path


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package torch look missing; SciPy, which looks for it too, sees what there is."""

    def refuse(_: int) -> None:
        raise missing("gp")

    def find(name: str) -> object:
        return None if name == "torch" else find_spec(name)

    monkeypatch.setattr("kerasweep.scheduler.samplers.requirements.find_spec", find)
    monkeypatch.setattr("kerasweep.scheduler.samplers.optuna_study.limit_torch", refuse)


@pytest.fixture
def content() -> dict[str, Any]:
    """Return the content of the sweep file."""
    return dict(SWEEP)


def write_job(folder: Path) -> None:
    """Write a sweep file and its job."""
    (folder / "train.py").write_text(JOB)
    (folder / "sweep.yaml").write_text(json.dumps(SWEEP))  # JSON is YAML


class Shell:
    """Runs commands in this process and keeps what they print."""

    def __init__(self) -> None:
        self.code = 0
        self.out = self.err = ""

    def __call__(self, *words: str) -> str:
        """Run a command; return what it printed to stdout."""
        result = CliRunner().invoke(app, list(words))
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        assert "Traceback" not in self.err, self.err
        return self.out


@pytest.fixture
def shell() -> Shell:
    """Return a way to run `kerasweep …` and inspect its output and exit code."""
    return Shell()

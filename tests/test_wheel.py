"""The wheel as a user gets it: in a clean environment, without TensorFlow, run from a user's project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "kerasweep", "jobs", "scheduler", "workers")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SWEEP = """
name: wheel
job: train.py
metric: {name: val_loss, goal: minimize}
method: grid
parameters:
  learning_rate: {values: [0.01, 0.1]}
training: {epochs: 1, batch_size: 16}
"""
TRAIN = """
import keras

from jobs import data  # the user's own folder `jobs`


def load_data():
    return data.load()


def build_model(learning_rate=0.01):
    return keras.Sequential()
"""


def run(command: list[str | Path], cwd: Path | None = None) -> str:
    """Run a command without this process's Python in its environment; return its output."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERASWEEP"))
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=500, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, since a build leaves folders beside them."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", source / "dist", source]
    )
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment with the wheel and its dependencies.

    This process's pip installs them, and compiles nothing ahead: neither takes half as long.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    found = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", found, "install", "--quiet", "--no-compile"]
    run([*pip, "--constraint", ROOT / "constraints.txt", wheel])
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project, with folders of the same names as ours."""
    for folder in ("jobs", "scheduler", "workers"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "jobs" / "data.py").write_text("def load():\n    return {}\n", encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    return tmp_path


def test_the_wheel_holds_every_module_and_the_gallery_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"kerasweep"}
    wanted = {
        path.relative_to(ROOT) if folder == "kerasweep" else Path("kerasweep") / path.relative_to(ROOT)
        for folder in ("kerasweep", "jobs", "scheduler", "workers")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == {str(path) for path in wanted}


def test_help_runs_without_tensorflow(python: Path, project: Path) -> None:
    assert "submit" in run([python.parent / "kerasweep", "--help"], cwd=project)
    missing = "import importlib.util as u; print(u.find_spec('tensorflow'), u.find_spec('keras'))"
    assert run([python, "-c", missing]).strip() == "None None"


def test_a_project_with_a_folder_jobs_of_its_own_is_submitted(python: Path, project: Path) -> None:
    kerasweep = python.parent / "kerasweep"
    said = json.loads(run([kerasweep, "submit", "sweep.yaml", "-o", "json"], cwd=project))
    assert said["trials"] == 2
    status = json.loads(run([kerasweep, "status", said["sweep"], "-o", "json"], cwd=project))
    assert status["trials"]["queued"] == 2
    bundles = list((project / ".kerasweep" / "artifacts").rglob("*.zip"))
    assert len(bundles) == 1
    with zipfile.ZipFile(bundles[0]) as bundle:
        assert {"train.py", "jobs/__init__.py", "jobs/data.py"} <= set(bundle.namelist())


@pytest.mark.parametrize(
    "module",
    ["kerasweep.jobs.sweepfile.spec", "kerasweep.scheduler.deciding.service", "kerasweep.workers.start"],
)
def test_import_names_hold_in_a_folder_that_has_the_same_ones(
    python: Path, project: Path, module: str
) -> None:
    where = run([python, "-c", f"import {module} as m; print(m.__file__)"], cwd=project).strip()
    assert Path(where).is_relative_to(python.parents[1])

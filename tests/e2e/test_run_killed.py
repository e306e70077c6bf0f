"""`kerasweep run` is killed, resumed with its worker kept warm, and run again with that worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaos import checker

from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.store.records import Records

JOB = """
import time

import keras
import numpy as np


def load_data():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return {"train": (x, x[:, :1]), "validation": (x, x[:, :1])}


def build_model(learning_rate=0.01):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="mse")
    return model


class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.3)


def callbacks():
    return [Slow()]
"""
SWEEP = {
    "name": "killed",
    "job": "train.py",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "method": "grid",
    "parameters": {"learning_rate": {"values": [0.01, 0.05]}},
    "training": {"epochs": 10, "batch_size": 16},
    "checkpoints": {"every_s": 0},
}


@pytest.mark.tf
@pytest.mark.slow
def test_a_killed_run_is_resumed_and_the_next_one_joins_its_worker(tmp_path: Path, until: Any) -> None:
    """Killed, it leaves no process; the run after the resumed one gives the same bits undisturbed."""
    (tmp_path / "train.py").write_text(JOB)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    home = tmp_path / "home"
    command = [str(Path(sys.executable).with_name("kerasweep")), "run"]
    environ = {**os.environ, "KERASWEEP_HOME": str(home)}

    def leftovers() -> list[Any]:
        return list(checker.leftovers(f"KERASWEEP_HOME={home}"))

    def finish(*words: str) -> tuple[dict[str, Any], str]:
        # Its pipes end with the run: whatever stays must not hold them.
        done = subprocess.run(
            [*command, *words, "-o", "json"],
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    run = subprocess.Popen(
        [*command, "sweep.yaml"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: any(trial.epochs >= 2 for trial in trials(home)), 90, "the second epoch")
    assert len(leftovers()) >= 4, "run, Redis, scheduler, worker, trainer"
    run.kill()
    run.wait()
    until(lambda: leftovers() == [], 10, "the end of all that it started")

    assert finish("--resume", "killed", "--keep-warm", "600")[0]["trial"] in (0, 1)
    resumed = trials(home)
    assert max(trial.attempt for trial in resumed) == 2
    assert {trial.failures for trial in resumed} == {0}
    assert all(message.endswith(" has died") for message in lost(home)), "its leases were not waited for"
    assert len(leftovers()) >= 4, "keeper, scheduler, worker and trainer"

    _, told = finish("sweep.yaml")
    assert "using the worker that an earlier run kept warm" in told
    again = trials(home)
    assert {trial.attempt for trial in again} == {1}
    assert [trial.digest for trial in again] == [trial.digest for trial in resumed]
    assert leftovers() == []
    assert not (home / "warm").exists()


def trials(home: Path) -> list[Any]:
    """Return the trials of the newest sweep; none if there is no store yet."""
    try:
        records = Records(f"sqlite:///{home / 'store.db'}")
    except KerasweepError:
        return []
    try:
        return [trial for sweep in records.sweeps()[:1] for trial in records.trials(sweep.id)]
    finally:
        records.close()


def lost(home: Path) -> list[str]:
    """Return why the first attempts of the only sweep ended."""
    records = Records(f"sqlite:///{home / 'store.db'}")
    [sweep] = records.sweeps()
    found = [str(attempt.message) for attempt in records.attempts(sweep.id) if attempt.number == 1]
    records.close()
    return found

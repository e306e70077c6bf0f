"""`kerasweep run` is killed: it leaves nothing behind, and resumes where it stopped."""

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
def test_a_killed_run_leaves_no_process_and_can_be_resumed(tmp_path: Path, until: Any) -> None:
    (tmp_path / "train.py").write_text(JOB)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    home = tmp_path / "home"
    command = [str(Path(sys.executable).with_name("kerasweep")), "run"]
    environ = {**os.environ, "KERASWEEP_HOME": str(home)}
    store = f"sqlite:///{home / 'store.db'}"

    def trials() -> list[Any]:
        try:
            records = Records(store)
        except KerasweepError:
            return []
        try:
            return [trial for sweep in records.sweeps() for trial in records.trials(sweep.id)]
        finally:
            records.close()

    run = subprocess.Popen(
        [*command, "sweep.yaml"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: any(trial.epochs >= 2 for trial in trials()), 90, "the second epoch")
    assert len(checker.leftovers(f"KERASWEEP_HOME={home}")) >= 4, "run, Redis, scheduler, worker, trainer"
    run.kill()
    run.wait()
    until(lambda: checker.leftovers(f"KERASWEEP_HOME={home}") == [], 10, "the end of all that it started")
    done = subprocess.run(
        [*command, "--resume", "killed", "-o", "json"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trial"] in (0, 1)
    assert max(trial.attempt for trial in trials()) == 2
    assert {trial.failures for trial in trials()} == {0}
    records = Records(store)
    lost = {attempt.message for attempt in records.attempts(records.sweeps()[0].id) if attempt.number == 1}
    records.close()
    assert all(str(message).endswith(" has died") for message in lost), "its leases were not waited for"
    assert checker.leftovers(f"KERASWEEP_HOME={home}") == []

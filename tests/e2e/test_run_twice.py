"""`kerasweep run --keep-warm` and the run after it, with a real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chaos import checker

JOB = """
import keras
import numpy as np


def load_data():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    return {"train": (x, x[:, :1]), "validation": (x, x[:, :1])}


def build_model(learning_rate=0.01):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="mse")
    return model
"""
SWEEP = {
    "name": "twice",
    "job": "train.py",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "method": "grid",
    "parameters": {"learning_rate": {"values": [0.01, 0.05]}},
    "training": {"epochs": 1, "batch_size": 16},
}


@pytest.mark.tf
@pytest.mark.slow
def test_a_second_run_joins_the_worker_and_gives_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(JOB)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    home = tmp_path / "home"
    environ = {**os.environ, "KERASWEEP_HOME": str(home)}
    program = str(Path(sys.executable).with_name("kerasweep"))

    def kerasweep(*words: str) -> tuple[list[dict[str, object]], str]:
        # Its pipes end with the run: whatever stays must not hold them.
        done = subprocess.run(
            [program, *words, "-o", "json"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return (found if isinstance(found, list) else [found]), done.stderr

    def digests() -> list[object]:
        return [trial["digest"] for trial in kerasweep("trials", "twice")[0]]

    kerasweep("run", "sweep.yaml", "--keep-warm", "600")
    first, left = digests(), checker.leftovers(f"KERASWEEP_HOME={home}")
    assert len(left) >= 4, "keeper, scheduler, worker and trainer"
    _, told = kerasweep("run", "sweep.yaml")
    assert "using the worker that an earlier run kept warm" in told
    assert digests() == first
    assert checker.leftovers(f"KERASWEEP_HOME={home}") == []
    assert not (home / "warm").exists()

"""Trains 256 trials of each search benchmark for 27 epochs, and keeps their curves: `make.py [JOB …]`.

A table is an `.npz` file: `curves`, float32, shape (trials, epochs), the metric after each epoch, NaN after a
divergence; and a column for each parameter. Rules and samplers are tested on them in simulated time.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
JOBS = ("search_mlp", "search_cnn", "search_wide")


def record(job: str) -> Path:
    """Train the trials of a job, and write their table."""
    from kerasweep import Client

    file = HERE.parent / "jobs" / job / "sweep.yaml"
    with tempfile.TemporaryDirectory(prefix="kerasweep-") as home:
        words = [sys.executable, "-m", "kerasweep", "run", str(file), "--home", home, "-o", "json"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        sweep = next(iter(Client(home=home).sweeps()))
        name, length = sweep.spec.metric.name, sweep.spec.training_for({}).epochs
        trials = sweep.trial_records()
        epochs = sweep.client.records.epochs(sweep.id)
        curves = np.full((len(trials), length), math.nan, np.float32)
        for trial in trials:
            for epoch in epochs.get(trial.number, []):
                curves[trial.number, epoch.epoch - 1] = epoch.metrics[name]
        columns = {param: np.array([trial.params[param] for trial in trials]) for param in trials[0].params}
    target = HERE / f"{job.removeprefix('search_')}.npz"
    np.savez_compressed(target, curves=curves, **columns)
    return target


if __name__ == "__main__":
    for each in sys.argv[1:] or JOBS:
        made = record(each)
        print(json.dumps({"table": made.name, "bytes": made.stat().st_size}))

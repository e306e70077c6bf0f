"""The overhead of a trial: a sweep whose trials train one step on a tiny array.

    python benchmarks/overhead.py [--trials 500] [--engine auto] [--slots auto] [--out FILE.json]

Prints trials per second from the submission to the last record, with a warm worker, and milliseconds per
trial by part.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from cluster import Cluster, cluster, machine, publish

JOB = """
import keras
import numpy as np


def load_data():
    return {"train": (np.ones((8, 4), "float32"), np.ones((8, 1), "float32"))}


def build_model(learning_rate=0.01):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="mse")
    return model
"""

SWEEP = """
name: overhead
job: train.py
metric: {{name: loss, goal: minimize}}
method: random
parameters:
  learning_rate: {{distribution: log_uniform, min: 0.0001, max: 0.1}}
training: {{epochs: 1, batch_size: 8}}
budget: {{max_trials: {trials}}}
"""


def main() -> None:
    """Run the benchmark and print its measurements."""
    flags = _flags()
    worker = ["--engine", flags.engine, "--slots", flags.slots, "--trainers", flags.trainers]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(JOB)
        with cluster(folder / "home", worker) as site:
            _run(site, folder, 8)  # warms the worker
            figures = _run(site, folder, flags.trials)
    result = {"benchmark": "overhead", "machine": machine(), "engine": flags.engine, **figures}
    publish(result, flags.out)


def _run(site: Cluster, folder: Path, trials: int) -> dict[str, Any]:
    """Run a sweep of this many trials; return its figures."""
    file = folder / f"sweep-{trials}.yaml"
    file.write_text(SWEEP.format(trials=trials))
    ran = site.run(file)
    lasted = [(trial.finished_at or 0.0) - (trial.started_at or 0.0) for trial in ran.trials]
    epochs = [epoch.seconds for found in site.records.epochs(ran.sweep.id).values() for epoch in found]
    return {
        "trials": len(ran.trials),
        "seconds": round(ran.seconds, 3),
        "trials_per_second": round(len(ran.trials) / ran.seconds, 2),
        "submit_ms_per_trial": round(1000 * ran.submit_s / len(ran.trials), 3),
        "claim_to_finish_ms_median": round(1000 * statistics.median(lasted), 1),
        "epoch_ms_median": round(1000 * statistics.median(epochs), 1),
    }


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--slots", default="auto")
    parser.add_argument("--trainers", default="auto")
    parser.add_argument("--out")
    return parser.parse_args()


if __name__ == "__main__":
    main()

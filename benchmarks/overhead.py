"""What a trial costs beside its arithmetic: a sweep whose trials train one step on a tiny array.

    python benchmarks/overhead.py [--trials 500] [--engine auto] [--slots auto] [--out FILE.json]

Prints trials per second from the submission to the last record, with a warm worker, and milliseconds per
trial by part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from kerasweep.jobs.queue import HintQueue
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.models import Sweep
from kerasweep.jobs.store.records import Records
from kerasweep.scheduler.local import Local
from kerasweep.scheduler.submission import submit

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

_DEADLINE_S = 900.0


def main() -> None:
    """Run the benchmark and print what it measured."""
    flags = _flags()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(JOB)
        settings = Settings(home=str(folder / "home"))
        worker = ["--engine", flags.engine, "--slots", flags.slots, "--trainers", flags.trainers]
        with Local(settings, worker) as local:
            bench = Bench(folder, local)
            bench.sweep(8)  # warms the worker
            result = bench.sweep(flags.trials)
    result |= {"python": platform.python_version(), "cores": os.cpu_count(), "engine": flags.engine}
    print(json.dumps(result, indent=2))
    if flags.out:
        Path(flags.out).write_text(json.dumps(result, indent=2) + "\n")


class Bench:
    """Sweeps through a running local cluster, timed."""

    def __init__(self, folder: Path, local: Local) -> None:
        self.folder, self.local = folder, local
        self.records = Records(local.settings.store)
        self.artifacts = Artifacts(local.settings.artifacts)
        self.queue = HintQueue(local.settings.broker_url)

    def sweep(self, trials: int) -> dict[str, Any]:
        """Run a sweep of so many trials."""
        path = self.folder / f"sweep-{trials}.yaml"
        path.write_text(SWEEP.format(trials=trials))
        begun = time.time()
        sweep = submit(path, records=self.records, artifacts=self.artifacts, queue=self.queue).sweep
        submitted = time.time()
        while not self.records.sweep(sweep.id).state.final:
            if time.time() - begun > _DEADLINE_S:
                raise TimeoutError(f"{self.records.counts(sweep.id)}; see {self.folder}/home/logs")
            self.local.check()
            time.sleep(0.05)
        return self._measured(sweep, begun, submitted)

    def _measured(self, sweep: Sweep, begun: float, submitted: float) -> dict[str, Any]:
        trials = self.records.trials(sweep.id)
        finished = [trial.finished_at or 0.0 for trial in trials]
        lasted = [(trial.finished_at or 0.0) - (trial.started_at or 0.0) for trial in trials]
        epochs = [epoch.seconds for found in self.records.epochs(sweep.id).values() for epoch in found]
        count = len(trials)
        return {
            "trials": count,
            "states": {str(state): number for state, number in self.records.counts(sweep.id).items()},
            "seconds": round(max(finished) - begun, 3),
            "trials_per_second": round(count / (max(finished) - begun), 2),
            "submit_ms_per_trial": round(1000 * (submitted - begun) / count, 3),
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

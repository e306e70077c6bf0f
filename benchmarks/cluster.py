"""A running worker and timed sweeps on it, shared by the benchmarks."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.scheduler.deciding.submission import submit
from kerasweep.scheduler.local.embedded import Local

DEADLINE_S = 1800.0


@dataclass(frozen=True)
class Ran:
    """A finished sweep.

    Args:
        sweep: as submitted.
        trials: as they ended, all of them completed.
        submit_s: the duration of the submission, in seconds.
        seconds: from the submission to the last trial's record.
    """

    sweep: SweepRecord
    trials: list[TrialRecord]
    submit_s: float
    seconds: float


class Cluster:
    """A separate Redis, scheduler and warm worker.

    Args:
        local: the running processes.
    """

    def __init__(self, local: Local) -> None:
        self.records = Records(local.settings.store)
        self._local = local
        self._artifacts = Artifacts(local.settings.artifacts)
        self._queue = HintQueue(local.settings.broker_url)
        self._until(self.records.alive, "a worker that is warm")

    def run(self, file: Path) -> Ran:
        """Run a sweep to its end.

        Raises:
            RuntimeError: not every trial was completed.
            TimeoutError: it took too long.
        """
        begun_s = time.time()
        sweep = self.submit(file)
        submit_s = time.time() - begun_s
        self._until(lambda: self.records.sweep(sweep.id).state.final, f"the end of {sweep.name}")
        trials = self.records.trials(sweep.id)
        if any(str(trial.state) != "completed" for trial in trials):
            raise RuntimeError(f"trials must all be completed, got {self.records.counts(sweep.id)}")
        return Ran(sweep, trials, submit_s, max(trial.finished_at or 0.0 for trial in trials) - begun_s)

    def submit(self, file: Path) -> SweepRecord:
        """Submit a sweep."""
        return submit(file, records=self.records, artifacts=self._artifacts, queue=self._queue).sweep

    def trainer_bytes(self) -> list[int]:
        """Return the memory of each of the worker's trainers, in bytes."""
        children = psutil.Process().children(recursive=True)
        return [
            child.memory_info().rss
            for child in children
            if "kerasweep.workers.trainer.main" in child.cmdline()
        ]

    def _until(self, done: Callable[[], object], what: str) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not done():
            if time.monotonic() > deadline_s:
                home = self._local.settings.home_path
                raise TimeoutError(f"not within {DEADLINE_S:g} s: {what}; see {home}/logs")
            self._local.check()
            time.sleep(0.02)


@contextmanager
def cluster(home: Path, worker_flags: Sequence[str] = ()) -> Iterator[Cluster]:
    """Run a cluster under a folder, and stop it at the end."""
    with Local(Settings(home=str(home)), worker_flags) as local:
        yield Cluster(local)


def publish(result: dict[str, Any], file: str | None) -> None:
    """Print a benchmark's result as JSON, and write it to a file if one is given."""
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text)


def machine() -> dict[str, Any]:
    """Describe the machine that the figures were measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

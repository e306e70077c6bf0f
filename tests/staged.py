"""Recorded sweeps without any training, for the command line, the client and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasweep.jobs.queue import hints as wire
from kerasweep.jobs.settings import from_env
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.models import EpochRecord, NewTrial, Progress, Result, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import AttemptKey, Failure, FailureClass, SweepState, TrialKey, TrialState

LEASE_S = 600.0

JOB = """
def load_data():
    return {}


def build_model(learning_rate=0.1, units=100):
    return None
"""

SWEEP: dict[str, Any] = {
    "name": "mlp",
    "job": "train.py",
    "metric": {"name": "val_loss", "goal": "minimize"},
    "method": "grid",
    "parameters": {"learning_rate": {"values": [0.01, 0.1]}, "units": {"values": [50, 100]}},
    "training": {
        "epochs": 10,
        "batch_size": 16,
        "early_stopping": {"monitor": "val_loss", "patience": {"values": [2, 5]}},
    },
    "seed": 7,
}


class Stage:
    """Records and artifacts under a folder, with trials recorded as workers would.

    Args:
        home: the folder; `KERASWEEP_HOME` points to it.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = from_env(home=str(home))
        self.records = Records(self.settings.store)
        self.artifacts = Artifacts(self.settings.artifacts)

    def sweep(self, **changes: Any) -> str:
        """Record a sweep with all its trials queued; return its id."""
        spec = parse_spec(SWEEP | changes)
        points = list(spec.space().grid())[: spec.planned_trials()]
        bundle = ArtifactRef("bundle", "bundles/0.zip", "0" * 64, 0)
        source = {"job": "/jobs/train.py", "git_commit": "c0ffee", "git_dirty": True}
        sweep = SweepRecord(
            wire.new_sweep_id(), spec.name, SweepState.RUNNING, spec, len(points), "train.py", bundle, "auto",
            source, "", 0.0, None,
        )  # fmt: skip
        self.records.create_sweep(sweep)
        with self.records.deciding(sweep.id) as decision:
            fresh = [NewTrial(n, params, 100 + n, "from the grid") for n, params in enumerate(points)]
            decision.add_trials(fresh)
        return sweep.id

    def claim(self, sweep: str, trial: int, losses: Sequence[float] = ()) -> tuple[AttemptKey, Progress]:
        """Claim a trial as a worker and record some epochs."""
        claim = self.records.claim(TrialKey(sweep, trial), "worker-1@here", LEASE_S)
        assert claim is not None
        epochs = [
            EpochRecord(number, {"loss": loss / 2, "val_loss": loss}, 0.25)
            for number, loss in enumerate(losses, start=1)
        ]
        progress = Progress(claim.key, tuple(epochs), (), (f"hello from trial {trial}",))
        self.records.record([progress], LEASE_S)
        return claim.key, progress

    def complete(self, sweep: str, trial: int, losses: Sequence[float] = (0.5, 0.3, 0.4)) -> None:
        """Record a trial as trained to its end by a worker."""
        key, _ = self.claim(sweep, trial, losses)
        best = min(range(len(losses)), key=losses.__getitem__) + 1
        name = f"sweeps/{sweep}/trials/{trial}/1/model-{best}-00.keras"
        sha256, size = self.artifacts.put(name, f"model of trial {trial}".encode())
        model = ArtifactRef("model", name, sha256, size, best)
        metrics = {"loss": losses[best - 1] / 2, "val_loss": losses[best - 1]}
        facts = {"device": "cpu", "versions": {"keras": "3.15.1"}}
        result = Result(
            TrialState.COMPLETED, losses[best - 1], best, len(losses), metrics, f"{trial:064d}", model, facts
        )
        self.records.finish(key, result)

    def fail(self, sweep: str, trial: int, message: str = "the loss became NaN in epoch 2") -> None:
        """Record a trial as diverged."""
        key, _ = self.claim(sweep, trial, [0.9])
        self.records.fail(key, Failure(FailureClass.DIVERGED, message))

    def end(self, sweep: str, state: SweepState, message: str = "") -> None:
        """End the sweep."""
        with self.records.deciding(sweep) as decision:
            decision.set_state(state, "as the test says", message)

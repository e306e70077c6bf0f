"""Sweeps, progress and results for tests to record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Claim, EpochRecord, NewTrial, Progress, Result, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import AttemptKey, SweepState, TrialKey, TrialState

LEASE_S = 30.0


class FakeClock:
    """A clock that only moves when told to; seconds since 1970."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds


def a_sweep(
    sweep: str = "abcd1234",
    *,
    name: str = "digits",
    goal: str = "minimize",
    max_failures: int = 3,
    gpus: int = 0,
    keep_top: int = 3,
) -> SweepRecord:
    """Return a sweep that is not recorded yet."""
    spec = parse_spec(
        {
            "name": name,
            "job": "train.py",
            "metric": {"name": "val_loss", "goal": goal},
            "method": "random",
            "parameters": {"learning_rate": {"distribution": "log_uniform", "min": 1e-4, "max": 0.1}},
            "training": {"epochs": 9, "batch_size": 16},
            "budget": {"max_trials": 20_000},
            "retries": {"max_failures": max_failures},
            "resources": {"gpus": gpus},
            "checkpoints": {"keep_top": keep_top},
        }
    )
    bundle = ArtifactRef("bundle", "bundles/job.zip", "b" * 64, 100)
    return SweepRecord(
        id=sweep,
        name=name,
        state=SweepState.RUNNING,
        spec=spec,
        max_trials=20_000,
        entry="train.py",
        bundle=bundle,
        engine="auto",
        source={"job": "/home/ü/train.py", "git_commit": None},
        message="",
        created_at=0.0,
        finished_at=None,
    )


def with_retries(**retries: int) -> SweepRecord:
    """Return a sweep whose trials may fail this often."""
    sweep = a_sweep()
    given = sweep.spec.retries.model_copy(update=retries)
    return replace(sweep, spec=sweep.spec.model_copy(update={"retries": given}))


def put_sweep(records: Records, trials: int = 1, sweep: SweepRecord | None = None) -> SweepRecord:
    """Record a sweep with queued trials; return it as recorded."""
    sweep = sweep or a_sweep()
    records.create_sweep(sweep)
    add_trials(records, sweep.id, range(trials))
    return records.sweep(sweep.id)


def add_trials(
    records: Records, sweep: str, numbers: Sequence[int], params: Mapping[str, Any] | None = None
) -> None:
    """Add trials with these numbers."""
    with records.deciding(sweep) as decision:
        decision.add_trials(
            [
                NewTrial(number, params or {"learning_rate": 0.01}, number + 7, "drawn at random")
                for number in numbers
            ]
        )


def claim(records: Records, sweep: str = "abcd1234", trial: int = 0, worker: str = "w1") -> Claim:
    """Claim a trial that must be claimable."""
    claimed = records.claim(TrialKey(sweep, trial), worker, LEASE_S)
    assert claimed is not None
    return claimed


def epoch(number: int, **metrics: float) -> EpochRecord:
    """Return an epoch's record."""
    return EpochRecord(number, metrics or {"val_loss": 1.0 / number}, 0.5)


def progress(key: AttemptKey, *epochs: int, logs: tuple[str, ...] = ()) -> Progress:
    """Return progress over these epochs, with a checkpoint after each."""
    refs = tuple(checkpoint(key, number) for number in epochs)
    return Progress(key, tuple(epoch(number) for number in epochs), refs, logs)


def checkpoint(key: AttemptKey, number: int) -> ArtifactRef:
    """Return a checkpoint's reference."""
    return ArtifactRef("checkpoint", f"sweeps/{key}/checkpoint-{number}.npz", "c" * 64, 1000, number)


def result(value: float = 0.5, *, epochs: int = 3, digest: str = "d" * 64, **changes: Any) -> Result:
    """Return a successful result."""
    good = Result(
        TrialState.COMPLETED, value, epochs, epochs, {"val_loss": value}, digest, None, {"device": "CPU"}
    )
    return replace(good, **changes)


def finish(records: Records, number: int, value: float, sweep: str = "abcd1234") -> None:
    """Claim a trial and finish it with a value."""
    records.finish(claim(records, sweep, number).key, result(value))

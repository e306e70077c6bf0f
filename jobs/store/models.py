"""The plain, frozen data that the records return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import AttemptKey, Failure, SweepState, TrialState

_HELD = "held"


@dataclass(frozen=True)
class SweepRecord:
    """A sweep as recorded; `entry` is the job's file within the bundle, `source` where the job came from."""

    id: str
    name: str
    state: SweepState
    spec: SweepSpec
    max_trials: int
    entry: str
    bundle: ArtifactRef
    engine: str
    source: Mapping[str, Any]
    message: str
    created_at: float
    finished_at: float | None

    @property
    def certifies(self) -> Mapping[str, Any] | None:
        """The sweep whose best variants this one trains again, if it does: `sweep`, `name`, `trials`, …"""
        return self.source.get("certifies")

    @property
    def held(self) -> bool:
        """Whether a scheduler has paused it for what the user must correct; `message` says what."""
        return self.state is SweepState.PAUSED and bool(self.message)

    def code_of(self, trial: TrialRecord) -> tuple[ArtifactRef, str]:
        """Return the bundle that a trial was trained with, and the job's path in it."""
        earlier = self.source.get("bundles", [])
        used = trial.facts.get("code", earlier[0]["sha256"] if earlier else None)
        for one in earlier:
            if one["sha256"] == used:
                return ArtifactRef("bundle", one["key"], one["sha256"], 0), one["entry"]
        return self.bundle, self.entry


@dataclass(frozen=True)
class NewTrial:
    """A trial that the scheduler decided to add, why, and its first rung, if it has one."""

    number: int
    params: Mapping[str, Any]
    seed: int
    reason: str
    rung: int | None = None
    by_hand: bool = False


@dataclass(frozen=True)
class TrialRecord:
    """A trial as recorded; `epochs` counts its recorded epochs, `facts` holds the device and versions."""

    sweep: str
    number: int
    state: TrialState
    params: Mapping[str, Any]
    seed: int
    attempt: int
    failures: int
    worker: str | None
    lease_until: float | None
    value: float | None
    best_epoch: int | None
    epochs: int
    metrics: Mapping[str, float]
    failure: Failure | None
    digest: str | None
    facts: Mapping[str, Any]
    created_at: float
    started_at: float | None
    finished_at: float | None
    rung: int | None = None
    ends: bool = False
    by_hand: bool = False


@dataclass(frozen=True)
class EarlierResult:
    """A result of an earlier sweep that a sweep learns from: a point of its own space.

    Args:
        source: the id of the earlier sweep.
        trial: the number of the trial there.
        state: its state there; `failed` if it diverged.
        params: the values, as in this sweep.
        value: of this sweep's metric; None if it diverged.
        rungs: the best value by each rung of this sweep that it reached, by epoch.
    """

    source: str
    trial: int
    state: TrialState
    params: Mapping[str, Any]
    value: float | None
    rungs: Mapping[int, float]


@dataclass(frozen=True)
class Demand:
    """What a trial's next attempt asks of a worker.

    Args:
        gpus: how many GPUs it trains on.
        pack_limit: the widest pack that it may train in; None for any width.
    """

    gpus: int
    pack_limit: int | None


@dataclass(frozen=True)
class Claim:
    """What a worker needs to train a trial that it has just claimed.

    `checkpoints` come newest first; `decisions` bind every attempt of the sweep; a value worse than `bar`
    does not get its model kept. At epoch `rung` the trial waits, or ends if it `ends`.
    """

    key: AttemptKey
    sweep: SweepRecord
    params: Mapping[str, Any]
    seed: int
    pack_limit: int | None
    checkpoints: tuple[ArtifactRef, ...]
    decisions: Mapping[str, Any]
    bar: float | None = None
    rung: int | None = None
    ends: bool = False


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one epoch, and its duration in seconds."""

    epoch: int
    metrics: Mapping[str, float]
    seconds: float
    attempt: int = 0


@dataclass(frozen=True)
class Progress:
    """What an attempt reports since its last report."""

    key: AttemptKey
    epochs: tuple[EpochRecord, ...] = ()
    checkpoints: tuple[ArtifactRef, ...] = ()
    logs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A successful end of a trial: `stopped` if the scheduler ended it, else `completed`."""

    state: TrialState
    value: float
    best_epoch: int
    epochs: int
    metrics: Mapping[str, float]
    digest: str
    model: ArtifactRef | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessRecord:
    """A registered worker or scheduler: its facts, and the seconds since its last heartbeat."""

    id: str
    facts: Mapping[str, Any]
    age_s: float


@dataclass(frozen=True)
class JournalEntry:
    """A decision and its reason; `state` is the new state of the trial (or of the sweep), if it changed."""

    id: int
    trial: int | None
    attempt: int | None
    at: float
    event: str
    reason: str
    state: str | None = None


class LogLine(NamedTuple):
    """A line that a trial printed; ids grow in write order, not in commit order."""

    id: int
    trial: int
    attempt: int
    text: str


def outcome_of_wait(rung: int) -> str:
    """Return the outcome of an attempt that ended at a rung, in epochs, where its trial waits."""
    return f"{_HELD}: {rung}"


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt of a worker at a trial; `outcome` is None while it runs."""

    trial: int
    number: int
    worker: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    message: str | None

    @property
    def rung(self) -> int | None:
        """The rung at which it ended, for its trial to wait there; None if it ended otherwise, or runs."""
        how, _, rung = (self.outcome or "").partition(": ")
        return int(rung) if how == _HELD else None

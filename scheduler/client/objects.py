"""The objects that the client returns: plain, frozen, and readable in a shell and in a notebook.

The documents of the command line are made from them; see `report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import FINAL, Failure, SweepState, TrialState
from kerasweep.scheduler.client import notebook, wording

if TYPE_CHECKING:
    from kerasweep.jobs.store.artifacts import ArtifactRef
    from kerasweep.jobs.store.models import SweepRecord, TrialRecord
    from kerasweep.jobs.sweepfile.spec import Metric
    from kerasweep.jobs.variants import Variant


@dataclass(frozen=True, repr=False)
class Trial:
    """One variant of a sweep.

    Args:
        number: from 0.
        state: its state.
        params: its parameters' values, by name.
        value: the sweep's metric at its best epoch; None if it has none that counts.
        best_epoch: that epoch, from 1.
        epochs: the number of recorded epochs.
        metrics: all metrics at the best epoch.
        attempts: the number of attempts so far.
        failure: why it failed, if it did.
        digest: SHA-256 of its final variables, in hexadecimal.
        seed: the seed of its randomness.
        worker: the worker that tried it last.
        started_at: when its first attempt began.
        finished_at: when it ended.
    """

    number: int
    state: TrialState
    params: Mapping[str, Any]
    value: float | None
    best_epoch: int | None
    epochs: int
    metrics: Mapping[str, float]
    attempts: int
    failure: Failure | None
    digest: str | None
    seed: int
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, record: TrialRecord) -> Trial:
        """Return the trial as recorded."""
        return cls(
            number=record.number,
            state=record.state,
            params=dict(record.params),
            value=record.value,
            best_epoch=record.best_epoch,
            epochs=record.epochs,
            metrics=dict(record.metrics),
            attempts=record.attempt,
            failure=record.failure,
            digest=record.digest,
            seed=record.seed,
            worker=record.worker,
            started_at=moment(record.started_at),
            finished_at=moment(record.finished_at),
        )

    def __repr__(self) -> str:
        return f"Trial({self.number}, {', '.join(filter(None, [self.state, *self._facts()]))})"

    def _facts(self) -> list[str]:
        reached = f"value={wording.metric(self.value)} at epoch {self.best_epoch}"
        why = f"{self.failure.cls}: {self.failure.message}" if self.failure else ""
        return [reached if self.value is not None else why, wording.params(self.params)]

    def _repr_html_(self) -> str:
        return Trials([self])._repr_html_()


class Trials(tuple[Trial, ...]):
    """Trials by number; a table in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        names = wording.short_names(dict.fromkeys(name for trial in self for name in trial.params))
        titles = ["trial", "state", *names.values(), "value", "best epoch", "epochs", "attempts", "failure"]
        return notebook.grid(titles, (_row(trial, names) for trial in self))


@dataclass(frozen=True, repr=False)
class Status:
    """The status of a sweep.

    Args:
        sweep: its id.
        name: its name.
        state: its state.
        trials: the number of its trials in each state.
        best: the best trial that counts, if any.
        max_trials: how many trials it may have.
        metric: the metric it optimizes: `name` and `goal`.
        message: why it failed, was cancelled or ended early; empty otherwise.
        waiting: why nothing happens, if something keeps its trials from starting.
        troubles: problems outside the job: retries that do not count, and workers set aside.
        awaited: the trials that must reach a rung, or end, before those waiting there can be decided.
        created_at: when it was submitted.
        finished_at: when it ended.
        elapsed_s: how long it has been training, in seconds; time without a running trial does not count.
        failed: the trials that failed, by number.
        eta_s: the estimated seconds until it ends, from the measured speed; None if unknown.
        variant: the best variant, of which `best` is the best trial, if the sweep has repeats.
    """

    sweep: str
    name: str
    state: SweepState
    trials: Mapping[TrialState, int]
    best: Trial | None
    max_trials: int
    metric: Metric
    message: str
    waiting: str | None
    troubles: tuple[str, ...]
    created_at: datetime
    finished_at: datetime | None
    elapsed_s: float
    failed: tuple[Trial, ...] = ()
    awaited: tuple[int, ...] = ()
    eta_s: float | None = None
    variant: Variant | None = None

    @classmethod
    def of(
        cls,
        sweep: SweepRecord,
        counts: Mapping[TrialState, int],
        best: TrialRecord | None,
        *,
        elapsed_s: float = 0.0,
        waiting: str | None = None,
        troubles: tuple[str, ...] = (),
        failed: Sequence[TrialRecord] = (),
        awaited: tuple[int, ...] = (),
        eta_s: float | None = None,
        variant: Variant | None = None,
    ) -> Status:
        """Return the status of a sweep as recorded.

        Args:
            sweep: the sweep.
            counts: the number of its trials in each state; absent ones count 0.
            best: the best trial that counts, if any.
            elapsed_s: how long it has been training, in seconds.
            waiting: why nothing happens, if something keeps its trials from starting.
            troubles: problems outside the job.
            failed: the trials that failed, by number.
            awaited: the trials that those at a rung wait for.
            eta_s: the estimated seconds until it ends, if known.
            variant: the best variant, if the sweep has repeats.
        """
        return cls(
            sweep=sweep.id,
            name=sweep.name,
            state=sweep.state,
            trials={state: counts.get(state, 0) for state in TrialState},
            best=Trial.of(best) if best else None,
            max_trials=sweep.max_trials,
            metric=sweep.spec.metric,
            message=sweep.message,
            waiting=waiting,
            troubles=troubles,
            created_at=datetime.fromtimestamp(sweep.created_at, UTC),
            finished_at=moment(sweep.finished_at),
            elapsed_s=elapsed_s,
            failed=tuple(map(Trial.of, failed)),
            awaited=awaited,
            eta_s=eta_s,
            variant=variant,
        )

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(count for state, count in self.trials.items() if state in FINAL)

    @property
    def reached(self) -> str:
        """The best value in words; with repeats, the mean and spread of the best variant."""
        if self.variant is not None:
            return wording.spread(self.variant.value, self.variant.std, len(self.variant.trials))
        return wording.metric(self.best.value if self.best else None)

    def __repr__(self) -> str:
        best = f", best {self._best}" if self.best else ""
        return f"Status({self.name!r}, {self.state}, {self.ended} of {self.max_trials} trials{best})"

    @property
    def _best(self) -> str:
        if self.best is None:
            return wording.NOTHING
        which = " of" if self.variant is None else ", the best of them"
        return f"{self.metric.name} {self.reached}{which} trial {self.best.number}"

    def _repr_html_(self) -> str:
        counted = ", ".join(f"{count} {state}" for state, count in self.trials.items() if count)
        facts = [
            ("sweep", f"{self.name} ({self.sweep})"),
            ("state", self.state),
            ("trials", f"{self.ended} of {self.max_trials} ended ({counted or 'none yet'})"),
            ("best", self._best),
            ("parameters", wording.params(self.best.params) if self.best else ""),
            ("elapsed", wording.duration(self.elapsed_s or None)),
            ("message", self.message),
            ("waiting", self.waiting or ""),
        ]
        return notebook.card((name, fact) for name, fact in facts if fact)


@dataclass(frozen=True)
class ModelFile:
    """A trial's recorded model: its location, digest and size."""

    uri: str
    sha256: str
    bytes: int


@dataclass(frozen=True, repr=False)
class Winner:
    """The best trial of a sweep, or another requested one, and its model.

    Args:
        sweep: the sweep's id.
        name: the sweep's name.
        trial: the trial's number.
        params: its parameters' values, by name.
        value: the sweep's metric at its best epoch.
        epoch: that epoch, from 1.
        metrics: all metrics at that epoch.
        model: its model file; None if none is kept.
        seed: the seed of its randomness.
        digest: SHA-256 of its final variables, in hexadecimal.
        variant: the mean and spread of the trials with the same values, if the sweep has repeats.
    """

    sweep: str
    name: str
    trial: int
    params: Mapping[str, Any]
    value: float | None
    epoch: int | None
    metrics: Mapping[str, float]
    model: ModelFile | None
    seed: int
    digest: str | None
    variant: Variant | None = None

    @classmethod
    def of(
        cls,
        sweep: SweepRecord,
        trial: TrialRecord,
        model: ArtifactRef | None,
        uri: str | None,
        variant: Variant | None = None,
    ) -> Winner:
        """Return a trial as a winner.

        Args:
            sweep: the sweep.
            trial: its best trial, or another one.
            model: the trial's recorded model file; None if there is none.
            uri: the full URL of the model file.
            variant: the trial's variant, if the sweep has repeats.
        """
        return cls(
            sweep=sweep.id,
            name=sweep.name,
            trial=trial.number,
            params=dict(trial.params),
            value=trial.value,
            epoch=trial.best_epoch,
            metrics=dict(trial.metrics),
            model=ModelFile(uri or "", model.sha256, model.bytes) if model else None,
            seed=trial.seed,
            digest=trial.digest,
            variant=variant,
        )

    def __repr__(self) -> str:
        reached = f"value={wording.metric(self.value)} at epoch {self.epoch}"
        told = [f"{self.name!r}", f"trial {self.trial}", reached, wording.params(self.params)]
        return f"Winner({', '.join(filter(None, told))})"

    def _repr_html_(self) -> str:
        model = f"{self.model.uri} ({wording.size(self.model.bytes)})" if self.model else wording.NOTHING
        return notebook.card(
            [
                ("sweep", f"{self.name} ({self.sweep})"),
                ("trial", self.trial),
                ("value", f"{wording.metric(self.value)} at epoch {self.epoch}"),
                *((name, wording.value(value)) for name, value in self.params.items()),
                *((name, wording.metric(value)) for name, value in self.metrics.items()),
                ("model", model),
            ]
        )


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Args:
        format: the format of the model.
        files: the files written, by name in the destination.
        max_abs_deviation: the largest absolute deviation from the Keras model's outputs.
        samples: the number of inputs compared.
        document: the content of `export.json`.
    """

    format: str
    files: tuple[str, ...]
    max_abs_deviation: float
    samples: int
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> ExportReport:
        """Create a report from the content of `export.json`."""
        files, deviation = tuple(document["files"]), float(document["max_abs_deviation"])
        return cls(document["format"], files, deviation, int(document["samples"]), document)


def moment(seconds: float | None) -> datetime | None:
    """Convert a time of the records, in seconds since 1970, to a datetime in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _row(trial: Trial, names: Mapping[str, str]) -> list[str]:
    values = [wording.value(trial.params[name]) if name in trial.params else "" for name in names]
    best_epoch = wording.NOTHING if trial.best_epoch is None else str(trial.best_epoch)
    figures = [wording.metric(trial.value), best_epoch, str(trial.epochs), str(trial.attempts)]
    why = f"{trial.failure.cls}: {trial.failure.message}" if trial.failure else ""
    return [str(trial.number), str(trial.state), *values, *figures, why]

"""The documents that `-o json` prints and that notebooks read, from the records alone.

Other programs rely on their keys: keys may be added, never renamed or removed. Numbers that JSON does not
support (NaN, infinity) are written as the strings "nan", "inf" and "-inf".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.queue.hints import encode_metrics, train_queue
from kerasweep.jobs.trial import FINAL, Failure, TrialState
from kerasweep.scheduler.client.objects import Status, Trial, Winner, moment

if TYPE_CHECKING:
    from kerasweep.jobs.store.artifacts import ArtifactRef
    from kerasweep.jobs.store.faults.quarantines import Quarantine
    from kerasweep.jobs.store.models import (
        EpochRecord,
        JournalEntry,
        LogLine,
        ProcessRecord,
        SweepRecord,
        TrialRecord,
    )
    from kerasweep.jobs.store.records import Records
    from kerasweep.jobs.variants import Variant
    from kerasweep.scheduler.deciding.warming import WarmStart

Document = dict[str, Any]

NO_WORKER = "no worker is alive; `kerasweep worker` starts one"
NO_SCHEDULER = "no scheduler is alive, so nothing is decided; `kerasweep scheduler` starts one"
STARTING = "the worker is starting"
#: How many failed trials a status lists; `kerasweep trials --state failed` lists all.
MOST_FAILURES = 10


def status_document(status: Status) -> Document:
    """Return the status of a sweep."""
    return {
        "sweep": status.sweep,
        "name": status.name,
        "state": str(status.state),
        "trials": {str(state): count for state, count in status.trials.items()},
        "best": best_of_status(status.best, status.variant) if status.best else None,
        "max_trials": status.max_trials,
        "metric": {"name": status.metric.name, "goal": str(status.metric.goal)},
        "message": status.message,
        "waiting": status.waiting,
        "troubles": list(status.troubles),
        "awaited": list(status.awaited),
        "created_at": timestamp(status.created_at),
        "finished_at": timestamp(status.finished_at),
        "elapsed_s": round(status.elapsed_s, 3),
        "eta_s": None if status.eta_s is None else round(status.eta_s, 3),
        "failures": [
            {"trial": one.number, "class": str(one.failure.cls), "message": one.failure.message}
            for one in status.failed[:MOST_FAILURES]
            if one.failure
        ],
    }


def best_of_status(trial: Trial, variant: Variant | None = None) -> Document:
    """Return the winner as `status` shows it, with its variant if the sweep has repeats."""
    return {
        "trial": trial.number,
        "value": number(trial.value),
        "epoch": trial.best_epoch,
        "params": dict(trial.params),
        **({"variant": variant_document(variant)} if variant else {}),
    }


def failure_document(failure: Failure | None) -> Document | None:
    """Return why a trial or a variant failed; None if it did not."""
    return {"class": str(failure.cls), "message": failure.message} if failure else None


def variant_document(variant: Variant) -> Document:
    """Return a variant: the values of its trials, their mean and sample standard deviation."""
    return {
        "variant": variant.number,
        "state": str(variant.state),
        "params": dict(variant.params),
        "value": number(variant.value),
        "std": number(variant.std),
        "trials": list(variant.trials),
        "seeds": list(variant.seeds),
        "values": [number(value) for value in variant.values],
        "best_trial": variant.best,
        "failure": failure_document(variant.failure),
    }


def trial_document(trial: Trial) -> Document:
    """Return everything known about a trial."""
    return {
        "trial": trial.number,
        "state": str(trial.state),
        "params": dict(trial.params),
        "value": number(trial.value),
        "best_epoch": trial.best_epoch,
        "epochs": trial.epochs,
        "metrics": encode_metrics(trial.metrics),
        "attempts": trial.attempts,
        "failure": failure_document(trial.failure),
        "digest": trial.digest,
        "seed": trial.seed,
        "worker": trial.worker,
        "started_at": timestamp(trial.started_at),
        "finished_at": timestamp(trial.finished_at),
    }


def best_document(winner: Winner) -> Document:
    """Return the winning trial and the location of its model."""
    return {
        "sweep": winner.sweep,
        "name": winner.name,
        "trial": winner.trial,
        "params": dict(winner.params),
        "value": number(winner.value),
        "epoch": winner.epoch,
        "metrics": encode_metrics(winner.metrics),
        "model": asdict(winner.model) if winner.model else None,
        "seed": winner.seed,
        "digest": winner.digest,
        **({"variant": variant_document(winner.variant)} if winner.variant else {}),
    }


def result_document(sweep: SweepRecord, trial: TrialRecord, model: ArtifactRef, *, version: str) -> Document:
    """Return the content of `result.json`: what a fetched model is and how it was trained.

    Args:
        sweep: the sweep.
        trial: the trial that trained the model.
        model: the recorded model file.
        version: the version of kerasweep that fetched it.
    """
    facts, source = dict(trial.facts), dict(sweep.source)
    bundle, entry = sweep.code_of(trial)
    return {
        "sweep": sweep.id,
        "name": sweep.name,
        "trial": trial.number,
        "params": dict(trial.params),
        "metric": {"name": sweep.spec.metric.name, "goal": str(sweep.spec.metric.goal)},
        "value": number(trial.value),
        "epoch": trial.best_epoch,
        "epochs": trial.epochs,
        "metrics": encode_metrics(trial.metrics),
        "seed": trial.seed,
        "digest": trial.digest,
        "attempts": trial.attempt,
        "model": {
            "file": "model.weights.h5" if model.key.endswith(".weights.h5") else "model.keras",
            "sha256": model.sha256,
            "bytes": model.bytes,
        },
        "versions": {**facts.get("versions", {}), "kerasweep": version},
        "device": facts.get("device"),
        "source": source,
        "git": {"commit": source.get("git_commit"), "dirty": source.get("git_dirty")},
        "job": {"file": entry, "bundle_sha256": bundle.sha256},
        "training": sweep.spec.training_for(dict(trial.params)).model_dump(mode="json"),
        "started_at": timestamp(moment(trial.started_at)),
        "finished_at": timestamp(moment(trial.finished_at)),
    }


def epoch_documents(epochs: Iterable[EpochRecord]) -> list[Document]:
    """Return the epochs of a trial with their metrics."""
    return [
        {
            "epoch": one.epoch,
            "seconds": round(one.seconds, 6),
            "attempt": one.attempt,
            **encode_metrics(one.metrics),
        }
        for one in epochs
    ]


def prediction_documents(outputs: Any) -> list[Document]:
    """Return one row for each sample, from a model's outputs: lists by output name, or one list."""
    named = outputs if isinstance(outputs, Mapping) else {"output": outputs}
    several = len(named) > 1
    rows: list[Document] = [{"row": row} for row in range(len(next(iter(named.values()), [])))]
    for name, values in named.items():
        for row, value in zip(rows, values, strict=True):
            cells = value if isinstance(value, list) else [value]
            for index, cell in enumerate(cells):
                title = str(index) if len(cells) > 1 else "value"
                row[f"{name}.{title}" if several else title] = cell
    return rows


def journal_documents(entries: Iterable[JournalEntry]) -> list[Document]:
    """Return journal entries with their reasons."""
    return [
        {
            "id": entry.id,
            "at": timestamp(moment(entry.at)),
            "trial": entry.trial,
            "attempt": entry.attempt,
            "event": entry.event,
            "reason": entry.reason,
        }
        for entry in entries
    ]


def log_documents(lines: Iterable[LogLine]) -> list[Document]:
    """Return log lines."""
    return [line._asdict() for line in lines]


def worker_documents(workers: Iterable[ProcessRecord], quarantines: Iterable[Quarantine]) -> list[Document]:
    """Return the live workers, their offers, and why one is set aside (None if it is not)."""
    aside = {one.worker: one.reason for one in quarantines}
    return [
        {"worker": one.id, "seen_s": round(one.age_s, 1), "set_aside": aside.get(one.id), **one.facts}
        for one in workers
    ]


def waits_of(records: Records, sweep: SweepRecord, trial: int | None = None) -> Counter[int]:
    """Return how many attempts at each trial, or at one, only went on after a wait at a rung."""
    stopping = sweep.spec.stopping
    if stopping is None or (stopping.halving is None and stopping.median is None):
        return Counter()
    return Counter(
        before.trial
        for before, after in pairwise(records.attempts(sweep.id, trial))
        if before.trial == after.trial and before.rung is not None
    )


def ending_reason(sweep: SweepRecord, counts: Mapping[TrialState, int]) -> str | None:
    """Return what is still to happen to a sweep that has ended, or None."""
    running = counts.get(TrialState.RUNNING, 0)
    if not sweep.state.final or not running:
        return None
    still = "1 trial still runs and stops" if running == 1 else f"{running} trials still run and stop"
    return f"{still} at the next step, or when the lease of a lost worker ends"


def waiting_reason(
    sweep: SweepRecord,
    counts: Mapping[TrialState, int],
    workers: Sequence[ProcessRecord],
    schedulers: Sequence[ProcessRecord],
    *,
    handle: Callable[[], str] | None = None,
    embedded: bool = False,
    kept: bool = False,
) -> str | None:
    """Return why a sweep does not proceed, or None if nothing holds it up.

    Args:
        sweep: the sweep.
        counts: the number of its trials in each state.
        workers: the live ones.
        schedulers: the live ones.
        handle: returns what commands call the sweep, if that may differ from its name.
        embedded: whether `kerasweep run` would start everything missing, on this machine.
        kept: whether this process keeps a worker and a scheduler running, so that none need be started.
    """
    if sweep.state.final:
        return None
    nobody = not workers and not schedulers and not kept
    named = handle or (lambda: sweep.name)
    if sweep.state == "paused":
        way = f"run --resume {named()}" if nobody and embedded else f"resume {named()}"
        return f"the sweep is paused; `kerasweep {way}` resumes it"
    if done_count(counts) >= sweep.max_trials:
        if schedulers or kept:
            return None
        way = f"run --resume {named()}" if nobody and embedded else "scheduler"
        return f"every trial has ended, but no scheduler is alive to end the sweep; `kerasweep {way}` does"
    if nobody:
        both = "`kerasweep scheduler` and `kerasweep worker`"
        start = (
            f"`kerasweep run --resume {named()}` resumes it, or {both} do" if embedded else f"start {both}"
        )
        return f"nothing trains it: no scheduler and no worker is alive; {start}"
    if not schedulers and not kept:
        return NO_SCHEDULER
    if not workers:
        return STARTING if kept else NO_WORKER
    if counts.get(TrialState.PAUSED) and done_count(counts) + counts[TrialState.PAUSED] >= sweep.max_trials:
        return f"all trials that are left are paused; `kerasweep resume {named()}` resumes them"
    if counts.get(TrialState.RUNNING) or not counts.get(TrialState.QUEUED):
        return None
    return _wrong_workers(sweep, workers)


def _wrong_workers(sweep: SweepRecord, workers: Sequence[ProcessRecord]) -> str | None:
    wanted = sweep.spec.resources.gpus
    if any(train_queue(wanted) in worker.facts.get("queues", ()) for worker in workers):
        return None
    have = sorted({int(worker.facts.get("gpus_per_trial", 0)) for worker in workers})
    offered = ", ".join(gpu_words(gpus) for gpus in have)
    return (
        f"each trial asks for {gpu_words(wanted)}, but the live workers offer {offered} per trial; "
        f"`kerasweep worker --gpus-per-trial {wanted}` starts one that fits"
    )


def gpu_words(gpus: int) -> str:
    """Return "2 GPUs", "1 GPU" or "no GPU"."""
    return "no GPU" if gpus == 0 else f"{gpus} GPU{'s' if gpus > 1 else ''}"


def done_count(counts: Mapping[TrialState, int]) -> int:
    """Return how many trials have ended."""
    return sum(count for state, count in counts.items() if state in FINAL)


def number(value: float | None) -> float | str | None:
    """Return the number as JSON can hold it."""
    return value if value is None or math.isfinite(value) else str(value)


def timestamp(at: datetime | None) -> str | None:
    """Format a time in UTC as ISO 8601, to the millisecond."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def flat(document: Mapping[str, Any], prefix: str = "") -> Document:
    """Return the document as one row: nested keys joined by dots, lists and odd values unchanged."""
    row: Document = {}
    for key, value in document.items():
        if isinstance(value, Mapping) and not _is_value(prefix + key):
            row |= flat(value, f"{prefix}{key}.")
        else:
            row[prefix + key] = value
    return row


def _is_value(path: str) -> bool:
    """A parameter's value may itself be a mapping, such as a schedule, and is kept whole."""
    return path.startswith("params.")


def warm_start_of(sweep: SweepRecord) -> WarmStart | None:
    """Return what a sweep learns from an earlier one; None if it was submitted without one."""
    from kerasweep.scheduler.deciding.warming import WarmStart

    told = sweep.source.get("warm")
    return None if told is None else WarmStart(**told)

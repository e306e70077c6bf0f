"""Problems of a sweep outside its job: retries that do not count, and workers set aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from kerasweep.jobs.trial import FailureClass, SweepState, TrialState
from kerasweep.scheduler.client import report, wording

if TYPE_CHECKING:
    from kerasweep.jobs.store.faults.quarantines import Quarantine
    from kerasweep.jobs.store.faults.setbacks import Setback
    from kerasweep.jobs.store.models import SweepRecord
    from kerasweep.jobs.store.records import Records
    from kerasweep.jobs.sweepfile.spec import Retries
    from kerasweep.scheduler.client.connections import Connections

#: Classes reported the first time; lost workers and preemptions only once half of the limit is used up.
_AT_ONCE = frozenset({FailureClass.MACHINE, FailureClass.STORE})
#: Older events do not hold up anything now.
_RECENT_S = 120.0
_MOST_TOLD = 4


def holding_up(
    client: Connections,
    sweep: SweepRecord,
    counts: Mapping[TrialState, int],
    *,
    handle: Callable[[], str],
    kept: bool,
) -> tuple[str | None, tuple[str, ...], tuple[int, ...]]:
    """Return why a sweep waits, its troubles, and the trials that those at a rung wait for.

    Args:
        client: connections to the store.
        sweep: the sweep.
        counts: the number of its trials in each state.
        handle: returns what commands call it.
        kept: whether this process keeps a worker and a scheduler running for it.
    """
    if sweep.state.final:
        return report.ending_reason(sweep, counts), (), ()
    kept = kept or bool(client.runs())
    alive = client.workers(), client.schedulers()
    embedded = client.settings.embedded_broker
    busy = bool(alive[0] and counts.get(TrialState.RUNNING))
    reason = (None if busy else _outage(client, sweep, counts)) or report.waiting_reason(
        sweep, counts, *alive, handle=handle, embedded=embedded, kept=kept
    )
    setbacks, names = client.records.setbacks(sweep.id), {one.id for one in alive[0]}
    reason = reason or waiting_for(setbacks, time.time())
    aside = [one for one in client.records.quarantines() if one.worker in names]
    awaited, held_up = awaited_in(client.records, sweep, counts, handle)
    told = troubles_of(setbacks, aside, sweep.spec.retries)
    return (*told_of(held_up, reason, told, counts), awaited)


def _outage(client: Connections, sweep: SweepRecord, counts: Mapping[TrialState, int]) -> str | None:
    """Return why Redis is out of reach, if it is and the sweep has trials to train."""
    if sweep.state is not SweepState.RUNNING or report.done_count(counts) >= sweep.max_trials:
        return None
    return client.broker_outage()


def troubles_of(
    setbacks: Sequence[Setback], quarantines: Iterable[Quarantine], retries: Retries
) -> tuple[str, ...]:
    """Return a sentence for each kind of setback, on the trial nearest its limit, and for each worker."""
    told = [_waits(one) for one in setbacks if one.cls is None][:1]
    for cls in FailureClass:
        alike = [one for one in setbacks if one.cls is cls]
        if alike:
            worst = max(alike, key=lambda one: one.count)
            told += _counted(worst, len(alike), retries.bound_of(cls))
    return (*told[:_MOST_TOLD], *(aside_words(one) for one in quarantines))


def waiting_for(setbacks: Sequence[Setback], now: float) -> str | None:
    """Return what holds up trials right now, if that is the store or the machine."""
    for one in setbacks:
        if one.cls is None:
            return _waits(one)
        if one.cls in _AT_ONCE and now - one.at < _RECENT_S:
            return f"trial {one.trial} is being retried: {one.message}"
    return None


def awaited_in(
    records: Records, sweep: SweepRecord, counts: Mapping[TrialState, int], handle: Callable[[], str]
) -> tuple[tuple[int, ...], str | None]:
    """Return the trials that those at a rung wait for, and a sentence if some of them are paused."""
    if not counts.get(TrialState.WAITING):
        return (), None
    from kerasweep.scheduler.deciding.rungs import awaited

    found = tuple(awaited(records, sweep))
    paused = records.trials(sweep.id, [TrialState.PAUSED]) if counts.get(TrialState.PAUSED) else []
    return found, paused_words(found, [one.number for one in paused], handle)


def told_of(
    held_up: str | None, reason: str | None, told: tuple[str, ...], counts: Mapping[TrialState, int]
) -> tuple[str | None, tuple[str, ...]]:
    """Return why a sweep waits and its troubles; what holds up a rung is a trouble while others train."""
    if held_up and (reason or counts.get(TrialState.RUNNING) or counts.get(TrialState.QUEUED)):
        return reason, (*told, held_up)
    return reason or held_up, told


def paused_words(awaited: Sequence[int], paused: Sequence[int], handle: Callable[[], str]) -> str | None:
    """Describe trials at a rung that wait for paused ones, if any.

    Args:
        awaited: the trials that those at a rung wait for.
        paused: the paused trials.
        handle: returns what commands call the sweep.
    """
    late = [number for number in paused if number in awaited]
    if not late:
        return None
    names = ", ".join(map(str, late[:_MOST_TOLD])) + (" and more" if len(late) > _MOST_TOLD else "")
    which = f"trial {names}, which is paused" if len(late) == 1 else f"trials {names}, which are paused"
    resumes = "it" if len(late) == 1 else "the first"
    return f"trials wait at a rung for {which}; `kerasweep resume {handle()} {late[0]}` resumes {resumes}"


def aside_words(one: Quarantine) -> str:
    """Describe a worker that is set aside: why, and what releases it."""
    return (
        f"worker {one.worker} is set aside: {one.reason}; `kerasweep workers --release {one.worker}` "
        "takes it back, and so does a trial that completes there as a probe"
    )


def _waits(one: Setback) -> str:
    return f"trial {one.trial} waits: {one.message}"


def _counted(worst: Setback, trials: int, bound: int) -> list[str]:
    if worst.cls not in _AT_ONCE and worst.count * 2 < bound:
        return []
    others = f", and {wording.count(trials - 1, 'other trial')} less often" if trials > 1 else ""
    times = wording.count(worst.count, "time")
    return [f"{worst.cls}: trial {worst.trial} {times} of {bound} allowed{others}; last: {worst.message}"]

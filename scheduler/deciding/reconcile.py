"""Recovers what was lost: dead workers, expired leases, lost hints, sweeps that were not advanced."""

from __future__ import annotations

import logging

from kerasweep.jobs.errors import InputError, NotFound, OutOfReach
from kerasweep.jobs.excerpt import MESSAGE_CHARS, words_of
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.queue.hints import train_queue
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import SweepState, TrialKey
from kerasweep.scheduler.deciding.advance import advance, send_hints

log = logging.getLogger(__name__)

#: A hint older than this many rounds that is not in its queue is lost.
_LOST_AFTER_ROUNDS = 2


def reconcile(records: Records, queue: HintQueue, settings: Settings) -> None:
    """Compare the records with the queue and the live processes, and repair differences.

    Raises:
        OutOfReach: the store does not respond. An unresponsive Redis is only logged, since running trials do
            not need it.
    """
    for name in records.bury_the_dead():
        log.warning("%s has died", name)
    for key in records.expire_leases():
        log.warning("trial %s lost its worker; it is queued again", key)
    for sweep in records.sweeps([SweepState.RUNNING]):
        advance_or_tell(records, sweep.id)
    try:
        send_hints(records, queue)
        _resend_lost_hints(records, queue, settings)
    except OutOfReach as exc:
        log.warning("queued trials are not announced to workers yet: %s", str(exc).splitlines()[0])


def advance_or_tell(records: Records, sweep: str) -> None:
    """Advance a sweep; an error in one must not stop the others, and is told in its records.

    One that the user must correct pauses it: otherwise it would come again in every round, and the sweep
    would look as if it ran. Any other may pass, so the sweep goes on being tried.

    Raises:
        OutOfReach: the store does not respond.
    """
    try:
        advance(records, sweep)
    except OutOfReach:
        raise
    except NotFound as exc:  # it has just been removed, or anyone wrote its id to the queue
        log.warning("%s", exc)
    except InputError as exc:
        _pause(records, sweep, "; ".join(str(exc).splitlines()))
    except Exception as exc:
        if _is_news(records, sweep, f"{type(exc).__name__}: {words_of(exc, MESSAGE_CHARS)}"):
            log.exception("sweep %s could not be advanced", sweep)


def _pause(records: Records, sweep: str, reason: str) -> None:
    with records.deciding(sweep) as decision:
        if decision.sweep.state is SweepState.RUNNING:
            decision.set_state(SweepState.PAUSED, reason, reason)
            log.warning("sweep %s is paused: %s", sweep, reason)


def _is_news(records: Records, sweep: str, defect: str) -> bool:
    """Record a defect as what is said of a running sweep; return whether that is new."""
    try:
        with records.deciding(sweep) as decision:
            before = decision.sweep.message
            if decision.sweep.state is SweepState.RUNNING:
                decision.tell(f"the scheduler cannot decide on it: {defect}")
            return decision.sweep.message != before
    except OutOfReach:
        raise
    except Exception:  # noqa: BLE001 - the defect is in the records themselves, and is logged
        return True


def _resend_lost_hints(records: Records, queue: HintQueue, settings: Settings) -> None:
    """Resend hints that are two rounds old and no longer in their queue, ahead of those in it.

    A worker may have taken one and died, or Redis may have been flushed. A second hint for a trial that a
    worker is about to claim is harmless: it finds nothing to claim.
    """
    waiting: dict[str, set[TrialKey]] = {}
    while late := records.unhinted(_LOST_AFTER_ROUNDS * settings.reconcile_s):
        for name in {train_queue(hint.gpus) for hint in late} - set(waiting):
            waiting[name] = queue.waiting(name)
        lost = [hint for hint in late if hint.key not in waiting[train_queue(hint.gpus)]]
        if lost:
            queue.send(lost, ahead=True)
            log.info("%d trials left their queue and were not claimed yet; they are queued again", len(lost))
        records.mark_hinted(late)

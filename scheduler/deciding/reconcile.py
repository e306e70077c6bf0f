"""Recovers what was lost: dead workers, expired leases, lost hints, sweeps that were not advanced."""

from __future__ import annotations

import logging

from kerasweep.jobs.errors import OutOfReach
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
        _advance(records, sweep.id)
    try:
        send_hints(records, queue)
        _resend_lost_hints(records, queue, settings)
    except OutOfReach as exc:
        log.warning("queued trials are not announced to workers yet: %s", str(exc).splitlines()[0])


def _advance(records: Records, sweep: str) -> None:
    """Advance a sweep; an error in one must not stop the others."""
    try:
        advance(records, sweep)
    except OutOfReach:
        raise
    except Exception:
        log.exception("sweep %s could not be advanced", sweep)


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

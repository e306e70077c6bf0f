"""What got lost is found again: dead workers, expired leases, lost hints, sweeps that nobody advanced."""

from __future__ import annotations

import logging

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.queue.hints import train_queue
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.deciding.advance import advance, send_hints

log = logging.getLogger(__name__)

#: A hint that is older than so many rounds, while its queue is empty, is lost.
_LOST_AFTER_ROUNDS = 2


def reconcile(records: Records, queue: HintQueue, settings: Settings) -> None:
    """Bring the records and the queue together once.

    Raises:
        OutOfReach: the store does not answer. A silent Redis is only told in the log, since running
            trials do not need it.
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
        log.warning("hints wait: %s", str(exc).splitlines()[0])


def _advance(records: Records, sweep: str) -> None:
    """Advance a sweep; one that cannot be decided on must not stop the others."""
    try:
        advance(records, sweep)
    except OutOfReach:
        raise
    except Exception:
        log.exception("sweep %s could not be advanced", sweep)


def _resend_lost_hints(records: Records, queue: HintQueue, settings: Settings) -> None:
    """Hints older than two rounds whose queue is empty went astray: send them again."""
    for sweep in records.sweeps([SweepState.RUNNING]):
        if queue.length(train_queue(sweep.spec.resources.gpus)) == 0:
            sent = send_hints(records, queue, sweep.id, _LOST_AFTER_ROUNDS * settings.reconcile_s)
            if sent:
                log.warning("%d hints of sweep %s were sent again", sent, sweep.id)

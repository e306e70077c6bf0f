"""The scheduler's process: a Celery app that advances sweeps on request and reconciles periodically.

Run as `python -m kerasweep.scheduler.deciding.service`. It keeps no important state in memory; any number of
them may run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import threading
from collections.abc import Callable

from celery import Celery, bootsteps

from kerasweep.jobs.errors import GaveUp, InputError, OutOfReach, without_password
from kerasweep.jobs.kernel import ProcessKind, exit_at_once, process_mark
from kerasweep.jobs.printable import log_to_stderr, printable
from kerasweep.jobs.queue import hints
from kerasweep.jobs.queue.broker import HintQueue, new_app
from kerasweep.jobs.queue.loop import run_until_told
from kerasweep.jobs.queue.watchdog import watch
from kerasweep.jobs.settings import Settings, from_env
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.identity import Ownership
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql.database import wait_for
from kerasweep.scheduler.deciding.advance import send_hints
from kerasweep.scheduler.deciding.prune import Pruner
from kerasweep.scheduler.deciding.reconcile import advance_or_tell, reconcile

log = logging.getLogger(__name__)

_AT_HAND = 16
_LAST_ROUND_S = 5.0
_STORE_DEADLINE_S = 60.0


def build_app(records: Records, settings: Settings) -> Celery:
    """Return the Celery app whose one task advances a sweep."""
    app = new_app(settings.broker_url)
    app.conf.update(worker_pool="threads", worker_concurrency=1, worker_send_task_events=False)
    # One task at a time with some prefetched: fetching each from Redis may take a second.
    app.conf.update(worker_disable_prefetch=False, worker_prefetch_multiplier=_AT_HAND)
    queue = HintQueue(settings.broker_url, settings.reach_s)

    class Watch(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.components:Hub", "celery.worker.components:Pool")

        def start(self, parent: object) -> None:
            watch(parent, queue, [hints.SCHEDULER_QUEUE], settings.stall_s)

    app.steps["worker"].add(Watch)

    @app.task(name=hints.ADVANCE)
    def advance_sweep(sweep: object = None) -> None:
        try:
            key = hints.read_hint(sweep, 0)
            advance_or_tell(records, key.sweep)
            send_hints(records, queue, key.sweep)
        except InputError as exc:  # anyone can write to the queue
            log.warning("%s", exc)
        except OutOfReach as exc:  # reconcile retries it
            log.warning("sweep %s will be advanced later: %s", sweep, str(exc).splitlines()[0])

    return app


def start_rounds(
    what: str, do_round: Callable[[], object], every_s: float, ended: threading.Event
) -> threading.Thread:
    """Start a thread that does a round now and every few seconds until `ended` is set; outages are survived.

    Args:
        what: what the rounds do, for the log.
        do_round: one round.
        every_s: the pause between two, in seconds.
        ended: ends the thread.
    """

    def keep() -> None:
        pause_s = 0.0
        while not ended.wait(pause_s):
            pause_s = every_s
            try:
                do_round()
            except OutOfReach as exc:
                log.warning("%s will be retried: %s", what, str(exc).splitlines()[0])
            except Exception:
                # A scheduler that stopped reconciling would look alive and lose every trial.
                log.exception("a round of %s failed", what)

    thread = threading.Thread(target=keep, name=what, daemon=True)
    thread.start()
    return thread


def main() -> int:
    """Run the scheduler until SIGTERM or SIGINT; return the exit code."""
    log_to_stderr("%(asctime)s scheduler %(levelname)s %(message)s")
    settings = from_env()
    records = Records(wait_for(settings.store, _STORE_DEADLINE_S, reach_s=settings.reach_s))
    artifacts = Artifacts(settings.artifacts)
    ownership = Ownership(records, artifacts, together=settings.together)
    graces = {"leftover_s": settings.orphan_grace_s, "grace_s": settings.delete_grace_s}
    pruner = Pruner(records, artifacts, ownership, **graces)
    ended = threading.Event()
    name = f"scheduler-{hints.new_sweep_id()[:6]}@{platform.node()}"
    queue = HintQueue(settings.broker_url, settings.reach_s)
    facts = {"host": platform.node(), "pid": os.getpid(), "process": process_mark()}

    def reconcile_once() -> None:
        records.seen(name, facts, ProcessKind.SCHEDULER)
        reconcile(records, queue, settings)

    # Two threads: artifacts that do not respond for minutes must not delay the end of a lease.
    reconciling = start_rounds("reconciling", reconcile_once, settings.reconcile_s, ended)
    pruning = start_rounds("pruning", pruner.round, settings.prune_s, ended)
    told = without_password(settings.broker_url), without_password(settings.store)
    log.info("%s announces trials through %s, with its records in %s", name, *told)
    app = build_app(records, settings)
    quiet = ["--without-mingle", "--without-gossip"]
    try:
        run_until_told(app, ["--queues", hints.SCHEDULER_QUEUE, "--hostname", name, *quiet])
    except GaveUp as exc:
        sys.stderr.write(printable(f"error: {exc}\n"))
        return exc.exit_code
    ended.set()
    for thread in (reconciling, pruning):
        thread.join(_LAST_ROUND_S)
    with contextlib.suppress(OutOfReach):
        records.gone(name, ProcessKind.SCHEDULER)
        if not pruning.is_alive():
            pruner.round()  # the last trials may just have ended
    return 0


if __name__ == "__main__":
    exit_at_once(main())

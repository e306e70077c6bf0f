"""The worker's Celery app: its task, and its reaction when Celery is told to stop or to revoke."""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import partial
from itertools import count
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import Ignore
from celery.worker import state as celery_state

from kerasweep.jobs.errors import GaveUp, KerasweepError
from kerasweep.jobs.queue import hints
from kerasweep.jobs.queue.broker import new_app
from kerasweep.jobs.queue.envelope import TAKEN
from kerasweep.jobs.queue.loop import run_until_told, wake
from kerasweep.jobs.queue.watchdog import watch
from kerasweep.workers.tasks import Worker

log = logging.getLogger(__name__)

_REVOKED = "revoked in Flower or by celery control"
_WATCH_S = 0.5
_LOOK_AGAIN = 20


def build_app(broker_url: str) -> Celery:
    """Return the Celery app of a worker."""
    app = new_app(broker_url)
    app.conf.update(worker_pool="threads", worker_redirect_stdouts=False)
    return app


def serve(app: Celery, worker: Worker, queues: list[str], most: int) -> None:
    """Take hints until SIGTERM or SIGINT.

    Args:
        app: from `build_app`.
        worker: trains the trials.
        queues: where hints are taken from.
        most: how many trials may ever train here at once.

    Raises:
        GaveUp: Celery stopped by itself.
    """

    @app.task(name=hints.TRAIN, bind=True)
    def train(task: Any, sweep: object = None, trial: object = None) -> None:
        key = hints.read_hint(sweep, trial)
        if not worker.train(task.request.id, key, (task.request.properties or {}).get(TAKEN, ())):
            raise Ignore  # not done, so not shown as done

    class Leave(bootsteps.StartStopStep):
        """Preempts as soon as Celery closes, whether it was told to stop or stops because of an error.

        Without this, a Celery that stops by itself would wait for its running trials, and take no others.
        """

        requires = ("celery.worker.components:Pool",)

        def close(self, parent: Any) -> None:
            leave(GaveUp.exit_code)

    @signals.worker_shutting_down.connect(weak=False)
    def told(**_: Any) -> None:
        leave(0)

    def leave(code: int) -> None:
        if worker.host.preempt():
            threading.Thread(target=_preempt, args=(worker, code), daemon=True).start()

    class Intake(bootsteps.StartStopStep):
        """Takes as many hints as trials can start at once; the others wait in Redis for any worker."""

        requires = ("celery.worker.components:Hub", "celery.worker.components:Pool")

        def start(self, parent: Any) -> None:
            worker.host.on_capacity = partial(_allow, parent)
            _allow(parent, worker.host.intake)
            worker.watchdog = watch(parent, worker.queue, queues, worker.settings.stall_s)

    app.steps["worker"].update((Leave, Intake))

    @signals.task_revoked.connect(weak=False)
    def cancel_queued(request: Any = None, **_: Any) -> None:
        key = hints.trial_of_hint_id(str(getattr(request, "id", "")))
        if key:
            threading.Thread(target=_cancel, args=(worker, key), daemon=True).start()

    threading.Thread(target=_watch_revoked, args=(worker,), daemon=True).start()
    threads = ["--pool", "threads", "--concurrency", str(most)]
    quiet = ["--without-mingle", "--without-gossip", "--events"]
    run_until_told(app, [*threads, "--queues", ",".join(queues), "--hostname", worker.name, *quiet])


def _allow(controller: Any, intake: int) -> None:
    """Let Celery hold this many tasks."""
    allowed = intake or -1  # for Celery 0 means "not set"
    if controller.max_concurrency != allowed:
        controller.max_concurrency = allowed
        wake(controller)


def _preempt(worker: Worker, code: int) -> None:
    """Checkpoint and release every attempt; exit with the code if that takes longer than the grace period."""
    began = time.monotonic()
    with worker.lock:
        attempts = list(worker.live.values())
    for attempt in attempts:
        attempt.ask("preempt")
    deadline = began + 0.7 * worker.settings.grace_s
    while worker.live and time.monotonic() < deadline:
        time.sleep(0.05)
    if worker.live:
        log.warning("%d attempts did not end within the grace period", len(worker.live))
        for trainer in worker.host.trainers:
            trainer.kill("the worker has to end")
    if not worker.left.wait(max(0.1, began + 0.8 * worker.settings.grace_s - time.monotonic())):
        log.warning("Celery does not stop, as when Redis does not respond; the worker exits without it")
        worker.leave()
        os._exit(code)
    # It stops by itself now, unless the store is unreachable too and signing off takes too long.
    time.sleep(max(0.1, began + 0.95 * worker.settings.grace_s - time.monotonic()))
    os._exit(code)


def _watch_revoked(worker: Worker) -> None:
    """Cancel trials whose running task was revoked."""
    for look in count(1):
        time.sleep(_WATCH_S)
        if look % _LOOK_AGAIN == 0:
            worker.host.look_again()
        with worker.lock:
            revoked = [attempt for task, attempt in worker.live.items() if task in celery_state.revoked]
        for attempt in revoked:
            _cancel(worker, attempt.key.of_trial)


def _cancel(worker: Worker, key: Any) -> None:
    try:
        worker.records.cancel_trial(key, _REVOKED)
    except KerasweepError as exc:
        log.warning("trial %s could not be cancelled: %s", key, exc)

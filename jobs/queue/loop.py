"""Runs Celery's loop until it is told to stop, and wakes it when there is something to handle.

The loop only checks its state between two waits for Redis, and a wait may take a second: without waking it, a
worker would notice that late.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

from celery import Celery, bootsteps, signals
from celery.apps import worker as celery_worker
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from kerasweep.jobs.errors import GaveUp

#: Celery refuses to run as root because of pickle, which is disabled here.
_BESIDE_THE_POINT = (SecurityWarning, CPendingDeprecationWarning)


def wake(controller: Any) -> None:
    """Wake the loop of a Celery worker. Call it from any thread but the loop's own."""
    if controller.hub is not None:
        controller.hub.call_soon(_nothing)


def run_until_told(app: Celery, words: list[str]) -> None:
    """Run a Celery worker until a signal ends it; the signal is noticed at once.

    Args:
        app: the worker's.
        words: the flags of `celery worker`.

    Raises:
        GaveUp: it stopped without a signal, because of an error that it has logged or of something that
            others sent. For Celery that is a normal end; for a supervisor it must not be.
    """
    controllers: list[Any] = []
    told = threading.Event()

    class Waking(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.components:Hub",)

        def start(self, parent: Any) -> None:
            controllers.append(parent)
            _silence()  # again: setting up its log, Celery re-enables warnings

    def tell(**_: Any) -> None:
        told.set()
        # The signal arrives in the loop's own thread, in the middle of its wait.
        for controller in controllers:
            threading.Thread(target=wake, args=(controller,), daemon=True).start()

    signals.worker_shutting_down.connect(tell, weak=False)
    celery_worker.safe_say = _nothing  # its notices of signals on stdout, which name nothing that users know
    _silence()
    app.steps["worker"].add(Waking)
    app.worker_main(["--quiet", "worker", "--loglevel", "WARNING", *words])
    if not told.is_set():
        raise GaveUp("Celery stopped without being told to; the process exits so that it is restarted")


def _silence() -> None:
    for category in _BESIDE_THE_POINT:
        warnings.filterwarnings("ignore", category=category)


def _nothing(*_: Any) -> None:
    pass

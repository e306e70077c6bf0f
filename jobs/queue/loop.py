"""Celery's loop: run until it is told to end, and woken when there is something for it to see.

The loop looks at what it was told between two waits for Redis, and a wait may take a second: a worker that
was told to end, or may take another task, would find out so much later.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from kerasweep.jobs.errors import GaveUp

#: That root would run what somebody pickled, which we refuse, and what other settings than ours would do.
_BESIDE_THE_POINT = (SecurityWarning, CPendingDeprecationWarning)


def wake(controller: Any) -> None:
    """Let the loop of a Celery worker look up now. From any thread but the loop's own."""
    if controller.hub is not None:
        controller.hub.call_soon(_nothing)


def run_until_told(app: Celery, words: list[str]) -> None:
    """Run a Celery worker until a signal ends it; it sees a signal at once.

    Args:
        app: the worker's.
        words: the flags of `celery worker`.

    Raises:
        GaveUp: it ended without a signal, over an error that it has logged or because something sent by
            others ended it. Celery calls that an end like any other; whoever supervises it must not.
    """
    controllers: list[Any] = []
    told = threading.Event()

    class Waking(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.components:Hub",)

        def start(self, parent: Any) -> None:
            controllers.append(parent)
            _silence()  # again: setting up its log, Celery lets warnings through

    def tell(**_: Any) -> None:
        told.set()
        # The signal comes in the loop's own thread, in the middle of its wait.
        for controller in controllers:
            threading.Thread(target=wake, args=(controller,), daemon=True).start()

    signals.worker_shutting_down.connect(tell, weak=False)
    _silence()
    app.steps["worker"].add(Waking)
    app.worker_main(["--quiet", "worker", "--loglevel", "WARNING", *words])
    if not told.is_set():
        raise GaveUp("Celery ended without being told to, and the process ends to be started anew")


def _silence() -> None:
    for category in _BESIDE_THE_POINT:
        warnings.filterwarnings("ignore", category=category)


def _nothing() -> None:
    pass

"""Celery's loop, woken when there is something for it to see.

The loop looks at what it was told between two waits for Redis, and a wait may take a second: a worker that
was told to end, or may take another task, would find out so much later.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery, bootsteps, signals


def wake(controller: Any) -> None:
    """Let the loop of a Celery worker look up now. From any thread but the loop's own."""
    if controller.hub is not None:
        controller.hub.call_soon(_nothing)


def end_promptly(app: Celery) -> None:
    """Let the app's worker see at once that it was told to end."""

    class Waking(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.components:Hub",)

        def start(self, parent: Any) -> None:
            def tell(**_: Any) -> None:
                # The signal comes in the loop's own thread, in the middle of its wait.
                threading.Thread(target=wake, args=(parent,), daemon=True).start()

            signals.worker_shutting_down.connect(tell, weak=False)

    app.steps["worker"].add(Waking)


def _nothing() -> None:
    pass

"""The calls of compiled loops: held back while one is timed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: How long to wait for the calls that are running; they are cut to about half a second.
_WITHIN_S = 2.0
_WAIT_S = 0.2


class Calls:
    """The calls of compiled loops in this process, which can be held back while one is timed. Safe to share
    between threads.

    TensorFlow runs the operations of all trials on one pool with a thread for each core, and a loop keeps its
    thread until it ends. Next to seven others a loop of 1.3 ms per step waited 1.5 s for its first step, so
    neither the wall clock nor the processor time of any thread tells what a step takes.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._paused = False

    @contextmanager
    def made(self, wait: Callable[[], None]) -> Iterator[None]:
        """Count a call while the context lasts; it begins after any pause.

        Args:
            wait: called now and then meanwhile; it may raise.
        """
        with self._changed:
            self._wait_while_paused(wait)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def paused(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold back new calls while the context lasts, which begins after the running ones.

        One pause at a time. A call that takes very long is not waited for.

        Args:
            wait: called now and then meanwhile; it may raise.
        """
        with self._changed:
            self._wait_while_paused(wait)
            self._paused = True
        try:
            with self._changed:
                self._wait_for_running(wait)
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()

    def _wait_while_paused(self, wait: Callable[[], None]) -> None:
        while self._paused:
            wait()
            self._changed.wait(_WAIT_S)

    def _wait_for_running(self, wait: Callable[[], None]) -> None:
        deadline_s = time.monotonic() + _WITHIN_S
        while self._running and time.monotonic() < deadline_s:
            wait()
            self._changed.wait(_WAIT_S)

"""The trials present at the same time: how many share one compiled program, and their calls of it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: How long to wait for the others, which build their models and may have to be traced.
_WITHIN_S = 1.0
#: Trials arrive one shortly after the other; after this long without one, all are here.
_BETWEEN_S = 0.2
_WAIT_S = 0.05
#: How recently a trial must have been here to count as company of one that fails now.
_RECENT_S = 5.0
#: How long to wait for the calls that are running; they are cut to about half a second.
_CALLS_WITHIN_S = 2.0
_CALLS_WAIT_S = 0.2


class Company:
    """The trials in this process by sweep, and their graphs. Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._here: Counter[str] = Counter()
        self._graphs: dict[str, dict[str, str]] = {}
        self._joined_at_s: dict[str, float] = {}
        self._widths: deque[tuple[float, int]] = deque()

    @contextmanager
    def joined(self, sweep: str) -> Iterator[Callable[[], None]]:
        """Count a trial in until the context ends, or the yielded function is called."""
        with self._changed:
            self._here[sweep] += 1
            self._joined_at_s[sweep] = time.monotonic()
            self._note_width()
            self._changed.notify_all()
        once = threading.Lock()

        def leave() -> None:
            if once.acquire(blocking=False):
                self._leave(sweep)

        try:
            yield leave
        finally:
            leave()

    def _leave(self, sweep: str) -> None:
        with self._changed:
            self._note_width()
            self._here[sweep] -= 1
            if not self._here[sweep]:
                del self._here[sweep], self._joined_at_s[sweep]
                self._graphs.pop(sweep, None)
            self._changed.notify_all()

    def recent_width(self) -> int:
        """Return the largest number of trials present at once within the last seconds.

        When memory runs out under several trials, they fail one after the other: the last one was not alone
        either.
        """
        with self._changed:
            self._note_width()
            return max(1, *(width for _, width in self._widths))

    def _note_width(self) -> None:
        now_s = time.monotonic()
        while self._widths and now_s - self._widths[0][0] > _RECENT_S:
            self._widths.popleft()
        self._widths.append((now_s, self._here.total()))

    def tell(self, sweep: str, run: str, graph: str) -> None:
        """Record the graph of one of a sweep's trials."""
        with self._changed:
            self._graphs.setdefault(sweep, {})[run] = graph
            self._changed.notify_all()

    def sharers(self, sweep: str, planned: int, enough: int, wait: Callable[[], None]) -> int:
        """Return approximately how many of a sweep's trials have one graph.

        If every trial here has a graph of its own, so will later ones. A trial that is alone counts only
        itself.

        Args:
            sweep: its id.
            planned: the total number of trials in the sweep.
            enough: a number that needs no closer check.
            wait: called now and then while waiting for the others.
        """
        deadline_s = time.monotonic() + _WITHIN_S
        with self._changed:
            while True:
                found = self._estimate(sweep, planned)
                late = time.monotonic() >= deadline_s
                if found >= enough or late or not self._more_will_tell(sweep, planned):
                    return found
                wait()
                self._changed.wait(_WAIT_S)

    def _estimate(self, sweep: str, planned: int) -> int:
        seen = list(self._graphs.get(sweep, {}).values())
        kinds = len(set(seen))
        return 1 if kinds == len(seen) else max(1, planned // kinds)

    def _more_will_tell(self, sweep: str, planned: int) -> bool:
        here = self._here[sweep]
        if len(self._graphs.get(sweep, ())) < here:
            return True
        return here < planned and time.monotonic() - self._joined_at_s.get(sweep, 0.0) < _BETWEEN_S


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
            self._changed.wait(_CALLS_WAIT_S)

    def _wait_for_running(self, wait: Callable[[], None]) -> None:
        deadline_s = time.monotonic() + _CALLS_WITHIN_S
        while self._running and time.monotonic() < deadline_s:
            wait()
            self._changed.wait(_CALLS_WAIT_S)

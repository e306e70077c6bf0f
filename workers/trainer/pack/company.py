"""The trials present at the same time: how many share one compiled program."""

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

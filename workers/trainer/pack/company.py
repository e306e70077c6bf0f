"""How many trials of a sweep may share one compiled program, told by those that are here at the same time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: The others are waited for so long: they build their models, and some have to be traced.
_WITHIN_S = 1.0
#: Trials come one close behind the other; when none has for so long, all are here.
_BETWEEN_S = 0.2
_WAIT_S = 0.05


class Company:
    """The trials in this process by sweep, and the graphs that they have. Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._here: Counter[str] = Counter()
        self._graphs: dict[str, dict[str, str]] = {}
        self._joined_at_s: dict[str, float] = {}

    @contextmanager
    def joined(self, sweep: str) -> Iterator[None]:
        """Count a trial in until the context ends."""
        with self._changed:
            self._here[sweep] += 1
            self._joined_at_s[sweep] = time.monotonic()
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._here[sweep] -= 1
                if not self._here[sweep]:
                    del self._here[sweep], self._joined_at_s[sweep]
                    self._graphs.pop(sweep, None)
                self._changed.notify_all()

    def tell(self, sweep: str, run: str, graph: str) -> None:
        """Note the graph of one of a sweep's trials."""
        with self._changed:
            self._graphs.setdefault(sweep, {})[run] = graph
            self._changed.notify_all()

    def sharers(self, sweep: str, planned: int, enough: int, wait: Callable[[], None]) -> int:
        """Return about how many of a sweep's trials have one graph.

        Where every trial here has a graph of its own, so will those that come. A trial that is alone counts
        for itself.

        Args:
            sweep: its id.
            planned: how many trials the sweep has in all.
            enough: so many need no closer look.
            wait: called now and then while the others are waited for.
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

"""Caches what was read from the records until it changes: one read for all viewers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep

T = TypeVar("T")

_FRESH_S = 0.5
_KEPT = 512


class Shelf:
    """Reads through a client, each item once per change of the records. Safe to share between threads.

    Args:
        client: connections to the store.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._marks: Mapping[str, str] = {}
        self._read_at = float("-inf")
        self._turn = threading.Lock()
        self._locks: dict[Hashable, threading.Lock] = defaultdict(threading.Lock)
        self._kept: OrderedDict[Hashable, tuple[str, Any]] = OrderedDict()

    def marks(self, *, fresh: bool = False) -> Mapping[str, str]:
        """Return the records' marks, at most half a second old; `fresh` reads them now."""
        with self._turn:
            if fresh or time.monotonic() - self._read_at > _FRESH_S:
                self._marks = self.client.records.marks() if self.client.has_store() else {}
                self._read_at = time.monotonic()
            return self._marks

    def sweep(self, name: str) -> Sweep:
        """Return a sweep by its id, a unique prefix of its id, or its name; raise as the client does."""
        return self.client.sweep(name)

    def kept(self, sweep: str, what: Hashable, read: Callable[[], T]) -> T:
        """Return the result of `read`, which is called again only after the sweep's mark has changed.

        Args:
            sweep: the sweep's id, or the key of another mark.
            what: what is read about it.
            read: reads it.
        """
        mark, key = self.marks().get(sweep, ""), (sweep, what)
        with self._turn:
            lock = self._locks[key]
        with lock:
            found = self._kept.get(key)
            if found is not None and found[0] == mark:
                return found[1]  # type: ignore[no-any-return]
            value = read()
            with self._turn:
                self._kept[key] = (mark, value)
                self._kept.move_to_end(key)
                while len(self._kept) > _KEPT:
                    old, _ = self._kept.popitem(last=False)
                    self._locks.pop(old, None)
            return value

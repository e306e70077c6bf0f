"""Caches what was read from the records until it changes: one read for all viewers, the first one ahead."""

from __future__ import annotations

import gc
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.store.overview import LOGS, PACE, PROCESSES
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep

log = logging.getLogger(__name__)

T = TypeVar("T")

_FRESH_S = 0.5
_MOST_KEPT = 512
#: How long a page waits with opening until the records are read, and with closing, in seconds.
_OPENING_S, _CLOSING_S = 10.0, 2.0


class Cache:
    """Keeps what was made until its mark changes; what several ask for at once is made once.

    Args:
        most: how many results are kept; the oldest goes first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turn = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[threading.Lock, list[tuple[object, Any]]]] = OrderedDict()

    def get(self, key: Hashable, mark: Callable[[], object], make: Callable[[], T]) -> T:
        """Return the result of `make`, which is called again only if the mark is another one.

        Args:
            key: what it is.
            mark: returns what is equal as long as the result holds; asked when it is this caller's turn, so
                that those who waited for a result take it.
            make: makes it.
        """
        with self._turn:
            lock, held = self._kept.setdefault(key, (threading.Lock(), []))
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with lock:
            now = mark()
            if not held or held[0][0] != now:
                held[:] = [(now, make())]
            return held[0][1]  # type: ignore[no-any-return]


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
        self._cache = Cache(_MOST_KEPT)

    def marks(self, *, fresh: bool = False) -> Mapping[str, str]:
        """Return the records' marks, at most half a second old; `fresh` reads them now."""
        with self._turn:
            if fresh or time.monotonic() - self._read_at > _FRESH_S:
                self._marks = self.client.records.marks() if self.client.has_store() else {}
                self._read_at = time.monotonic()
            return self._marks

    def sweep(self, name: str) -> Sweep:
        """Return a sweep by its id, a unique prefix of its id, or its name; raise as the client does."""
        if name in self.marks() and name not in (PROCESSES, PACE, LOGS):  # an id
            return self.kept(name, "sweep", lambda: self.client.sweep(name))
        return self.client.sweep(name)

    def kept(self, sweep: str, what: Hashable, read: Callable[[], T]) -> T:
        """Return the result of `read`, which is called again only after the sweep's mark has changed.

        Args:
            sweep: the sweep's id, or the key of another mark.
            what: what is read about it.
            read: reads it.
        """
        return self._cache.get((sweep, what), lambda: self.mark(sweep), read)

    def mark(self, *keys: str) -> str:
        """Return one mark for sweeps' ids or the keys of other marks."""
        marks = self.marks()
        return "|".join(marks.get(key, "") for key in keys)


def digest_of(marks: Mapping[str, str], keys: Sequence[str]) -> str:
    """Return a short digest of the marks with these keys, of all marks if there are none."""
    chosen = [marks.get(key) for key in keys] if keys else sorted(marks.items())
    return hashlib.blake2b(repr(chosen).encode(), digest_size=8).hexdigest()


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the garbage collector wait: of the thousands of objects that are made at once, all stay."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Opening:
    """Does some work in a thread of its own as the page opens. The page waits for some of it, so that
    its first viewer need not; the rest is done while it is open already.

    Args:
        first: the steps to wait for.
        then: the steps not to wait for.
    """

    def __init__(self, first: Callable[[], Iterator[None]], then: Callable[[], Iterator[None]]) -> None:
        self._steps = (first, then)
        self._ready, self._closed = threading.Event(), threading.Event()

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Do it while the context lasts; a step that has begun is completed."""
        thread = threading.Thread(target=self._run, name="opening", daemon=True)
        thread.start()
        await run_in_threadpool(self._ready.wait, _OPENING_S)
        try:
            yield
        finally:
            self._closed.set()
            await run_in_threadpool(thread.join, _CLOSING_S)

    def _run(self) -> None:
        try:
            for steps in self._steps:
                for _ in steps():
                    if self._closed.is_set():
                        return
                self._ready.set()
        except KerasweepError as exc:  # whoever asks for it will be told
            log.debug("could not read ahead: %s", exc)
        finally:
            self._ready.set()

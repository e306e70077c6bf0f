"""Notifies browsers of changed records with server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool

from kerasweep.jobs.errors import KerasweepError
from kerasweep.scheduler.web.shelf import Shelf, digest_of

log = logging.getLogger(__name__)

#: How often the marks are read while anyone is watching, and how long a stream may be silent, in seconds.
_PERIOD_S, _SILENT_S = 1.0, 15.0
#: Viewers are told of a change in this many groups, one after the other, so that they do not all ask at once.
_GROUPS, _APART_S = 8, 0.05
MOST_VIEWERS = 200


def events_of(shelf: Shelf, keys: Sequence[str]) -> str:
    """Return the address of the events that a page follows; to be made before its records are read.

    Args:
        shelf: reads the marks.
        keys: see `Pulse.stream`.
    """
    query = [*(("of", key) for key in keys), ("since", digest_of(shelf.marks(), keys))]
    return f"/events?{urlencode(query)}"


class Pulse:
    """Reads the marks once a second for all viewers, and only while there are any.

    Args:
        shelf: reads them.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._marks: Mapping[str, str] = {}
        self._beat, self._looked = asyncio.Event(), asyncio.Event()
        self._ended = False
        self.viewers = self._arrived = 0

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Watch for changes until the context ends; then every stream ends as well."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self.stop()
            task.cancel()

    def stop(self) -> None:
        """Let every stream end."""
        self._ended = True
        self._beat.set()
        self._looked.set()

    async def stream(self, keys: Sequence[str], since: str | None = None) -> AsyncIterator[str]:
        """Yield an event each time one of the marks has changed. Its id is the digest of the marks, which a
        browser sends when it connects again.

        Args:
            keys: the sweeps' ids or other keys of marks; none means all of them.
            since: the digest of the marks when the viewer read the records, so that it is told of a change
                between then and now; None if it has read nothing yet.
        """
        self.viewers += 1
        self._arrived += 1
        later_s = self._arrived % _GROUPS * _APART_S
        try:
            seen = since
            if since is not None:
                await self._looked.wait()  # what is known may be older than what the viewer has read
            while not self._ended:
                beat = self._beat  # before the marks are looked at: a change in between sets it
                now = digest_of(self._marks, keys)
                if now != seen:
                    if seen is not None:
                        await asyncio.sleep(later_s)
                    told = "event: changed\ndata: \n" if seen is not None else ": watching\n"
                    yield f"{told}id: {now}\n\n"
                    seen = now
                try:
                    await asyncio.wait_for(beat.wait(), _SILENT_S)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self.viewers -= 1

    async def _run(self) -> None:
        while True:
            if self.viewers:
                await self._look()
            await asyncio.sleep(_PERIOD_S)

    async def _look(self) -> None:
        looked, self._looked = self._looked, asyncio.Event()  # who comes from now on waits for the next look
        try:
            marks = await run_in_threadpool(self._shelf.marks, fresh=True)
        except KerasweepError as exc:
            log.warning("the records cannot be read: %s", str(exc).splitlines()[0])
            return
        finally:
            looked.set()
        if marks != self._marks:
            self._marks, beat, self._beat = marks, self._beat, asyncio.Event()
            beat.set()

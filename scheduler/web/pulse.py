"""Notifies browsers of changed records with server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.concurrency import run_in_threadpool

from kerasweep.jobs.errors import KerasweepError
from kerasweep.scheduler.web.shelf import Shelf

log = logging.getLogger(__name__)

#: How often the marks are read while anyone is watching, and how long a stream may be silent, in seconds.
_PERIOD_S, _SILENT_S = 1.0, 15.0
#: Viewers are told of a change in this many groups, one after the other, so that they do not all ask at once.
_GROUPS, _APART_S = 8, 0.05
MOST_VIEWERS = 200


class Pulse:
    """Reads the marks once a second for all viewers, and only while there are any.

    Args:
        shelf: reads them.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._marks: Mapping[str, str] = {}
        self._beat = asyncio.Event()
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

    async def stream(self, keys: Sequence[str]) -> AsyncIterator[str]:
        """Yield an event each time one of the marks has changed, the first as soon as they are known.

        Args:
            keys: the sweeps' ids or other keys of marks; none means all of them.
        """
        self.viewers += 1
        self._arrived += 1
        later_s = self._arrived % _GROUPS * _APART_S
        try:
            seen: str | None = None
            while not self._ended:
                beat = self._beat  # before the marks are looked at: a change in between sets it
                now = self._of(keys)
                if now != seen:
                    if seen is not None:
                        await asyncio.sleep(later_s)
                    yield "event: changed\ndata: \n\n" if seen is not None else ": watching\n\n"
                    seen = now
                try:
                    await asyncio.wait_for(beat.wait(), _SILENT_S)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self.viewers -= 1

    def _of(self, keys: Sequence[str]) -> str:
        return repr([self._marks.get(key) for key in keys] if keys else sorted(self._marks.items()))

    async def _run(self) -> None:
        while True:
            if self.viewers:
                await self._look()
            await asyncio.sleep(_PERIOD_S)

    async def _look(self) -> None:
        try:
            marks = await run_in_threadpool(self._shelf.marks, fresh=True)
        except KerasweepError as exc:
            log.warning("the records cannot be read: %s", str(exc).splitlines()[0])
            return
        if marks != self._marks:
            self._marks, beat, self._beat = marks, self._beat, asyncio.Event()
            beat.set()

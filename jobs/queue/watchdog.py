"""Detects a process that is alive but takes nothing, although trials are queued and it has free slots."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisGone

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.queue.channel import TolerantChannel

log = logging.getLogger(__name__)

_LOOKS = 6


class Watchdog:
    """Makes a stalled process take hints again: first by reconnecting, then by ending it so that it is
    restarted.

    Args:
        waiting: returns the number of messages in the queues; OutOfReach while Redis does not respond.
        room: whether the process could take one.
        reconnect: reconnects; running trials are not affected.
        end: stops the process cleanly.
        patience_s: how long nothing may be taken, in seconds, before each of the two.
        clock: returns seconds.
    """

    def __init__(
        self,
        waiting: Callable[[], int],
        room: Callable[[], bool],
        reconnect: Callable[[], None],
        end: Callable[[], None],
        patience_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting, self._room, self._reconnect, self._end = waiting, room, reconnect, end
        self._patience_s, self._clock = patience_s, clock
        self._since: float | None = None
        self._taken = TolerantChannel.taken
        self._reconnected = False

    @property
    def stalled_s(self) -> float:
        """How long nothing was taken although it could have been, in seconds."""
        return 0.0 if self._since is None else self._clock() - self._since

    def look(self) -> None:
        """Check once, and act if nothing was taken for too long."""
        if not self._stalls():
            self._since, self._reconnected = None, False
            return
        if self._since is None:
            self._since = self._clock()
        if self.stalled_s > 2 * self._patience_s:
            log.error(
                "no trial taken for %.0f s though some are queued; this process restarts", self.stalled_s
            )
            self._end()
        elif self.stalled_s > self._patience_s and not self._reconnected:
            log.warning("no trial taken for %.0f s though some are queued; reconnecting", self.stalled_s)
            self._reconnected = True
            self._reconnect()

    def _stalls(self) -> bool:
        taken, self._taken = self._taken, TolerantChannel.taken
        try:
            return taken == self._taken and self._room() and self._waiting() > 0
        except OutOfReach:
            return False


def watch(controller: Any, queue: HintQueue, names: Sequence[str], patience_s: float) -> Watchdog:
    """Watch a Celery worker's intake, in a separate thread.

    Args:
        controller: Celery's.
        queue: checks Redis over its own connections.
        names: the queues that the worker takes from.
        patience_s: how long nothing may be taken, in seconds.
    """

    def room() -> bool:
        consumer = getattr(getattr(controller, "consumer", None), "task_consumer", None)
        return consumer is not None and bool(consumer.channel.qos.can_consume())

    def break_off() -> None:
        raise RedisGone("nothing arrives over this connection")

    made = Watchdog(
        lambda: sum(map(queue.length, names)),
        room,
        lambda: controller.hub.call_soon(break_off),
        lambda: os.kill(os.getpid(), signal.SIGTERM),
        patience_s,
    )

    def keep_looking() -> None:
        while True:
            time.sleep(patience_s / _LOOKS)
            try:
                made.look()
            except Exception:
                log.exception("the watchdog could not check")

    threading.Thread(target=keep_looking, name="watchdog", daemon=True).start()
    return made

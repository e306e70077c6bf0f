"""A Redis channel that outlives what is no message.

One entry in a queue's list that is not JSON, or is no envelope of Celery's, would end the process that takes
it: the error passes through kombu into Celery's loop, which gives up. Here the entry is told in the log
and gone.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

log = logging.getLogger(__name__)

_NO_MESSAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)


class TolerantChannel(redis.Channel):  # type: ignore[misc]
    """Takes messages from Redis and drops what is none."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except _NO_MESSAGE as exc:
            log.warning("an entry that is no message was dropped: %s: %.80s", type(exc).__name__, exc)
            return True


class TolerantTransport(redis.Transport):  # type: ignore[misc]
    """Redis, with channels that drop what is no message."""

    Channel = TolerantChannel
    #: How long one wait for a message takes, in seconds: so long may a process take to end once told to.
    brpop_timeout = 0.2


def tolerate_garbage() -> None:
    """Let every Redis connection that this process opens from now on drop what is no message."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{TolerantTransport.__name__}"

"""A Redis channel that outlives what is no message, and the loss of Redis.

One entry in a queue's list that is not JSON, or is no envelope of Celery's, would end the process that takes
it: the error passes through kombu into Celery's loop, which gives up. Here the entry is told in the log
and gone. So would a message that was taken and not yet acknowledged when the connection broke: kombu closes
such a channel twice, and wants to give the message back over a connection that it has forgotten. Here it
stays where it is: reconciling finds lost hints.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, _transport_cache, redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

_NO_MESSAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)


class TolerantQoS(redis.QoS):  # type: ignore[misc]
    """Acknowledges messages and gives them back, as long as there is a Redis to tell."""

    def ack(self, delivery_tag: str) -> None:
        if self._connected:
            super().ack(delivery_tag)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back what was taken and not acknowledged, if Redis can be told."""
        try:
            if self._connected:
                super().restore_unacked_once(stderr)
        except (RedisError, OSError) as exc:
            log.warning("%d messages could not be given back to Redis: %.80s", len(self._delivered), exc)
        finally:
            self._on_collect.cancel()
            self._delivered.clear()

    @property
    def _connected(self) -> bool:
        return self.channel.connection is not None and self.channel.connection.client is not None


class TolerantChannel(redis.Channel):  # type: ignore[misc]
    """Takes messages from Redis and drops what is none."""

    QoS = TolerantQoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except _NO_MESSAGE as exc:
            log.warning("an entry that is no message was dropped: %s: %.80s", type(exc).__name__, exc)
            return True


class TolerantTransport(redis.Transport):  # type: ignore[misc]
    """Redis, with channels that outlive what is no message, and Redis itself."""

    Channel = TolerantChannel
    #: How long one wait for a message takes, in seconds: so long may a process take to end once told to.
    brpop_timeout = 0.2


def tolerate_garbage() -> None:
    """Let every Redis connection that this process opens from now on be a tolerant one."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{TolerantTransport.__name__}"
        _transport_cache.pop(scheme, None)  # from connections opened before

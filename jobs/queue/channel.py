"""A Redis channel that survives malformed data in Redis, and the loss of Redis.

Celery itself stops when it meets an entry that is not JSON, a key of the wrong type, or a malformed
remote-control message. Here such an entry is dropped with a log message, and such a key is renamed to
`kerasweep.aside.KEY`, where nothing reads it.

Messages taken but not yet started are not kept in Redis a second time: reconciling sends a lost hint again.
So the only keys in use are the queues' lists, and those with which Celery's inspection finds its way back to
the requester.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import redis as redis_py
from kombu.connection import Connection, ConnectionPool, PooledConnection
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError, ResponseError

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.queue.complaints import Complaints
from kerasweep.jobs.queue.envelope import TAKEN, is_hint_queue, read_document, read_envelope

log = logging.getLogger(__name__)
complaints = Complaints(log)

#: The longest broadcast that is read, in bytes: a revocation of 1,000 tasks takes about 40,000.
_LONGEST_BROADCAST = 1 << 18
_WRONG_TYPE = "WRONGTYPE"


def set_aside(client: redis_py.Redis, keys: Iterable[str], wanted: str = "list") -> None:
    """Rename keys of an unexpected type, to free their names."""
    for key in keys:
        kind = bytes_to_str(client.type(key))
        if kind not in ("none", wanted):
            client.rename(key, f"kerasweep.aside.{key}")
            log.warning(
                "the Redis key %s held a %s instead of a %s; it is now kerasweep.aside.%s",
                key, kind, wanted, key,
            )  # fmt: skip


class TolerantQoS(virtual.QoS):  # type: ignore[misc]
    """Tracks messages taken but not yet started, and returns them to their queue when the channel closes."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Return unacknowledged messages to their queue, if Redis can be reached."""
        self._on_collect.cancel()
        self._flush()
        messages = list(self._delivered.values())
        self._delivered.clear()
        if not messages or not self._connected:
            return
        try:
            for message in messages:
                self.channel._restore(message)
        except (RedisError, OSError) as exc:
            log.warning("%d queued trials could not be returned to Redis: %.80s", len(messages), exc)

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Do nothing: nothing is kept a second time."""

    @property
    def _connected(self) -> bool:
        return self.channel.connection is not None and self.channel.connection.client is not None


class TolerantChannel(redis.Channel):  # type: ignore[misc]
    """Takes hints from Redis and drops everything else."""

    QoS = TolerantQoS
    #: One list per queue; other senders' priorities would spread messages over four.
    priority_steps = [0]  # noqa: RUF012
    #: The number of entries that this process has taken from queues, of any kind.
    taken: ClassVar[int] = 0

    def _brpop_read(self, **options: Any) -> bool:
        try:
            found = self._popped(**options)
            if found is None:
                raise redis.Empty
            TolerantChannel.taken += 1
            queue = bytes_to_str(found[0])
            self._queue_cycle.rotate(queue)
            self._survive("a queue entry that is not a hint was dropped", self._take, queue, found[1])
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _popped(self, **options: Any) -> Any:
        try:
            return self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        except ResponseError as exc:
            if _WRONG_TYPE not in str(exc):
                raise
            with self.conn_or_acquire() as client:
                set_aside(client, self.active_queues)
            return None

    def _take(self, queue: str, text: bytes) -> None:
        if is_hint_queue(queue):
            message = read_envelope(queue, text)
        else:
            message = read_document(text, _LONGEST_BROADCAST)
        self.connection._deliver(message, queue)

    def _receive_one(self, c: Any) -> bool | None:
        try:
            response = c.parse_response()
        except self.connection_errors:
            self._in_listen = None
            raise
        if not isinstance(response, (list, tuple)):
            return None
        payload = self._handle_message(c, response)
        if not bytes_to_str(payload["type"]).endswith("message"):
            return None
        self._survive("a malformed broadcast was dropped", self._hear, payload)
        return True

    def _hear(self, payload: dict[str, Any]) -> None:
        topic = bytes_to_str(payload["channel"]).removeprefix(self.keyprefix_fanout)
        message = read_document(payload["data"], _LONGEST_BROADCAST)
        self._deliver_fanout_message(message, topic.split("/", 1)[0])

    def _survive(self, told: str, act: Callable[..., None], *what: Any) -> None:
        """Deliver a message; if it causes an error, log that and continue."""
        try:
            act(*what)
        except (RedisError, OSError):
            raise
        except InputError as exc:
            complaints.tell(told, exc)
        except Exception as exc:  # noqa: BLE001 whatever it is, it came from outside
            complaints.tell(told, f"{type(exc).__name__}: {exc}")

    def _mended(self, keys: list[str], wanted: str, act: Callable[..., Any], *what: Any) -> Any:
        """Run an operation on keys, and once more if a key had the wrong type and was moved aside."""
        try:
            return act(*what)
        except ResponseError as exc:
            if _WRONG_TYPE not in str(exc):
                raise
            with self.conn_or_acquire() as client:
                set_aside(client, keys, wanted)
            return act(*what)

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        self._mended([queue], "list", lambda: super(TolerantChannel, self)._put(queue, message, **kwargs))

    def _size(self, queue: str) -> int:
        return 0  # requested with every declaration, and used by nothing

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """Return the bindings of an exchange, skipping malformed entries."""
        key = self.keyprefix_queue % exchange
        with self.conn_or_acquire() as client:
            members = self._mended([key], "set", client.smembers, key)
        rows = [tuple(member.decode(errors="replace").split(self.sep)) for member in members]
        return [row for row in rows if len(row) == 3]

    def _lookup(self, exchange: str, routing_key: str, default: str | None = None) -> list[str]:
        if not exchange:
            return [routing_key]
        found = super()._lookup(exchange, routing_key, default)
        if not found:  # an error here would make kombu reconnect for an answer that nobody waits for
            log.debug("nothing is bound to %s by %.80s: the requester is gone", exchange, routing_key)
        return found  # type: ignore[no-any-return]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        # Hints go to their list by name, broadcasts through a channel: neither needs a table in Redis.
        if self.typeof(exchange).type == "fanout":
            self._fanout_queues[queue] = (exchange, routing_key.replace("#", "*"))

    def maybe_refresh_binding_expiry(self) -> None:
        """Do nothing: there is no table to refresh."""

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        if queue not in self._fanout_queues:  # these have no keys
            super()._delete(queue, *args, **kwargs)

    def _restore(self, message: Any, leftmost: bool = False) -> None:
        if taken := message.properties.get(TAKEN):
            with self.conn_or_acquire() as client:
                client.rpush(*taken)


class TolerantTransport(redis.Transport):  # type: ignore[misc]
    """Redis, with channels that survive malformed entries, and the loss of Redis."""

    Channel = TolerantChannel
    #: How long one wait for a message takes, in seconds; a process may take this long to stop once told to.
    brpop_timeout = 0.2


class _Tolerant:
    """Routes a connection to Redis through tolerant channels; other connections of the process are
    unaffected.
    """

    def get_transport_cls(self) -> Any:
        found = super().get_transport_cls()  # type: ignore[misc]
        return TolerantTransport if found is redis.Transport else found


class RedisConnection(_Tolerant, Connection):  # type: ignore[misc]
    """A connection with tolerant channels, also in its pool."""

    def Pool(self, limit: int | None = None, **kwargs: Any) -> ConnectionPool:  # noqa: N802
        """Return a pool of connections like this one."""
        return _RedisPool(self, limit, **kwargs)


class _PooledRedis(_Tolerant, PooledConnection):  # type: ignore[misc]
    pass


class _RedisPool(ConnectionPool):  # type: ignore[misc]
    def new(self) -> _PooledRedis:
        return _PooledRedis(self, **dict(self.connection._info(resolve=False)))

"""The connection to Redis: safe Celery settings, and the sending of hints.

The leases in the store are the only authority on retries, so tasks are acknowledged early, have no result,
and are never retried by Celery. Every setting below is based on measurements.
"""

from __future__ import annotations

import re
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.channel import RedisConnection, set_aside
from kerasweep.jobs.queue.hints import (
    ADVANCE,
    SCHEDULER_QUEUE,
    TRAIN,
    Hint,
    hint_id,
    train_queue,
    trial_of_hint_id,
)
from kerasweep.jobs.queue.remote import restrict_control
from kerasweep.jobs.trial import TrialKey

_REMEDY = "Start Redis or set KERASWEEP_BROKER_URL to one that runs; `kerasweep doctor` says more."


def celery_settings() -> dict[str, Any]:
    """Return the settings shared by all our Celery apps."""
    return {
        "task_acks_late": False,
        "task_ignore_result": True,
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_hijack_root_logger": False,
        "task_create_missing_queues": True,
    }


def new_app(broker_url: str) -> Celery:
    """Return a Celery app for a broker that survives malformed data in Redis."""
    app = Celery("kerasweep", broker=broker_url, set_as_current=False)
    app.conf.update(celery_settings())
    app.amqp.Connection = RedisConnection
    if broker_url.startswith("rediss://"):  # kombu verifies no certificate unless the URL asks for it
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    restrict_control(app)
    return app


#: Entries read at once: each may be as large as Redis allows.
_PAGE = 50
# Read without parsing: an entry may be anything.
_TASK_ID = re.compile(rb'"id": ?"([a-z0-9.]{1,80})"')


class HintQueue:
    """Sends hints; a lost hint only costs time.

    Args:
        broker_url: `redis://…`, `rediss://…` or `redis+socket://…`.
        reach_s: how long Redis may take to respond.
        app: the Celery app to publish with; by default a new one.
    """

    def __init__(self, broker_url: str, reach_s: float = 5.0, app: Celery | None = None) -> None:
        self.url = broker_url
        self._app = app or new_app(broker_url)
        if app is None:  # a short-lived sender must not hang on a frozen Redis
            self._app.conf.broker_transport_options = {
                "socket_timeout": reach_s,
                "socket_connect_timeout": reach_s,
            }
        plain = broker_url
        if broker_url.startswith("redis+socket://"):
            plain = broker_url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=")
        asked: dict[str, Any] = {"socket_timeout": reach_s, "socket_connect_timeout": reach_s}
        if broker_url.startswith("rediss://"):
            asked["ssl_check_hostname"] = True  # not the default of every redis-py
        self._redis = redis.Redis.from_url(plain, **asked)

    def ping(self) -> None:
        """Check that Redis responds.

        Raises:
            OutOfReach: it does not.
        """
        with self._translated():
            self._redis.ping()

    def send(self, hints: list[Hint], *, ahead: bool = False) -> None:
        """Send hints for trials.

        Args:
            hints: what to send.
            ahead: put them in front of their queues, since their turn has already come; trials that have
                waited at a rung always go there.

        Raises:
            OutOfReach: Redis does not respond; some may have been sent.
        """
        moved = Counter(train_queue(hint.gpus) for hint in hints if ahead or hint.waited)
        with self._translated(), self._app.producer_or_acquire() as producer:
            for hint in hints if ahead else sorted(hints, key=lambda one: one.waited):
                self._app.send_task(
                    TRAIN,
                    kwargs=hint.body,
                    queue=train_queue(hint.gpus),
                    task_id=hint_id(hint),
                    kwargsrepr=hint.shown,
                    argsrepr="",
                    producer=producer,
                )
            for name, many in moved.items():
                with self._redis.pipeline() as steps:
                    for _ in range(many):  # the newest is on the left, and workers take from the right
                        steps.lmove(name, name, "LEFT", "RIGHT")
                    steps.execute()

    def send_advance(self, sweep: str) -> None:
        """Tell the scheduler that a sweep may continue.

        Raises:
            OutOfReach: Redis does not respond.
        """
        with self._translated(), self._app.producer_or_acquire() as producer:
            self._app.send_task(ADVANCE, kwargs={"sweep": sweep}, queue=SCHEDULER_QUEUE, producer=producer)

    def length(self, queue: str) -> int:
        """Return the number of messages in a queue.

        Raises:
            OutOfReach: Redis does not respond.
        """
        with self._translated():
            set_aside(self._redis, [queue])
            return int(self._redis.llen(queue))

    def give_back(self, queue: str, text: str) -> None:
        """Return a hint unchanged to the front of its queue.

        Raises:
            OutOfReach: Redis does not respond.
        """
        with self._translated():
            self._redis.rpush(queue, text)

    def waiting(self, queue: str) -> set[TrialKey]:
        """Return the trials whose hints are in a queue; other entries are skipped.

        Raises:
            OutOfReach: Redis does not respond.
        """
        found: set[TrialKey] = set()
        with self._translated():
            set_aside(self._redis, [queue])
            # Read from the end where hints are added, so that hints taken from the other end meanwhile shift
            # nothing.
            for start in count(0, _PAGE):
                page: list[Any] = self._redis.lrange(queue, start, start + _PAGE - 1)
                found.update(key for entry in page for key in _hinted_by(entry))
                if len(page) < _PAGE:
                    return found
        return found

    def close(self) -> None:
        """Close the connections."""
        self._app.close()
        self._redis.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OperationalError, OSError) as exc:
            raise OutOfReach("Redis", self.url, _REMEDY, str(exc)[:160]) from exc


def _hinted_by(entry: bytes) -> Iterator[TrialKey]:
    """Yield the trial of a queue entry that is a hint."""
    found = _TASK_ID.search(entry)
    key = trial_of_hint_id(found[1].decode()) if found else None
    if key is not None:
        yield key

"""The way through Redis, when Redis goes while messages are taken and not yet acknowledged."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from kerasweep.jobs.queue.broker import new_app
from kerasweep.jobs.queue.channel import tolerate_garbage


@pytest.fixture
def app(redis_server: Any) -> Celery:
    tolerate_garbage()
    return new_app(redis_server.url)


def taken(app: Celery, connection: Any) -> list[Any]:
    """Send three messages and take them, without an acknowledgement."""
    with app.producer_or_acquire() as producer:
        for number in range(3):
            producer.publish({"number": number}, routing_key="some", declare=[Queue("some")])
    messages: list[Any] = []
    with connection.Consumer(
        [Queue("some")], callbacks=[lambda _, message: messages.append(message)], prefetch_count=8
    ):
        while len(messages) < 3:
            connection.drain_events(timeout=10)
    return messages


def test_a_connection_that_broke_closes_twice_without_a_word(app: Celery, redis_server: Any) -> None:
    connection = app.connection_for_read()
    messages = taken(app, connection)
    redis_server.stop()
    # What Celery's consumer does when its connection broke.
    connection.collect(socket_timeout=1)
    connection.close()
    for message in messages:
        message.ack()


def test_what_was_not_acknowledged_goes_back_while_redis_lives(app: Celery, redis_server: Any) -> None:
    connection = app.connection_for_read()
    messages = taken(app, connection)
    messages[0].ack()
    connection.close()
    with app.connection_for_read() as second:
        assert second.default_channel.client.llen("some") == 2

"""The Redis transport, when Redis stops or contains entries that no worker should find there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from chaos.nemesis import message
from kombu import Queue

from kerasweep.jobs.errors import InputError, OutOfReach
from kerasweep.jobs.queue.broker import HintQueue, new_app
from kerasweep.jobs.queue.envelope import read_envelope
from kerasweep.jobs.queue.hints import Hint, trial_of_hint_id
from kerasweep.jobs.trial import TrialKey

QUEUE = "train.cpu"


def hints(count: int) -> list[Hint]:
    return [Hint(TrialKey("abcdef0123", number), 1, "mlp", 0, {"rate": 0.1}) for number in range(count)]


@pytest.fixture
def app(redis_server: Any) -> Celery:
    return new_app(redis_server.url)


@pytest.fixture
def queue(redis_server: Any, app: Celery) -> Any:
    made = HintQueue(redis_server.url, app=app)
    yield made
    made.close()


@pytest.fixture
def client(redis_server: Any) -> Any:
    with redis.Redis(unix_socket_path=redis_server.url.removeprefix("redis+socket://")) as made:
        yield made


def taken(connection: Any, count: int) -> list[Any]:
    """Take messages without acknowledging them."""
    messages: list[Any] = []
    with connection.Consumer(
        [Queue(QUEUE)], callbacks=[lambda _, one: messages.append(one)], prefetch_count=8
    ):
        while len(messages) < count:
            connection.drain_events(timeout=10)
    return messages


def test_a_broken_connection_closes_twice_silently(app: Celery, queue: HintQueue, redis_server: Any) -> None:
    connection = app.connection_for_read()
    queue.send(hints(3))
    messages = taken(connection, 3)
    redis_server.stop()
    # What Celery's consumer does when its connection breaks.
    connection.collect(socket_timeout=1)
    connection.close()
    for one in messages:
        one.ack()


def test_what_was_not_acknowledged_goes_back_as_it_was(app: Celery, queue: HintQueue, client: Any) -> None:
    queue.send(hints(3))
    before = client.lrange(QUEUE, 0, -1)
    connection = app.connection_for_read()
    taken(connection, 3)[0].ack()
    assert client.llen(QUEUE) == 0
    connection.close()
    assert sorted(client.lrange(QUEUE, 0, -1)) == sorted(before[:2])
    assert [key.decode() for key in client.keys("*")] == [QUEUE], "nothing is kept anywhere else"


def test_a_key_of_the_wrong_type_is_set_aside_by_whoever_meets_it(
    app: Celery, queue: HintQueue, client: Any
) -> None:
    client.set(QUEUE, "x")
    queue.send(hints(1))
    assert client.get(f"kerasweep.aside.{QUEUE}") == b"x"
    client.delete(QUEUE)
    client.hset(QUEUE, "a", "b")
    assert queue.length(QUEUE) == 0
    connection = app.connection_for_read()
    with connection.Consumer([Queue(QUEUE)], callbacks=[lambda *_: None]):
        client.delete(QUEUE)
        client.sadd(QUEUE, "x")
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.5)
    assert client.exists(QUEUE) == 0
    connection.close()


ID = "abcdef0123.1.1.0123abcd"


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    found = json.loads(message("kerasweep.train", {"sweep": "abcdef0123", "trial": 1}))
    change(found)
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\xff",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"null",
        b"[]",
        b"{}",
        b'{"body": 1, "properties": 3}',
        b'{"headers": {"x": "' + b"x" * 1_000_000 + b'"}}',
        b'{"n": ' + b"9" * 20_000 + b"}",
        changed(lambda one: one["headers"].update(eta="2199-01-01T00:00:00+00:00")),
        changed(lambda one: one["headers"].update(expires="2199-01-01T00:00:00+00:00")),
        changed(lambda one: one["headers"].update(id=["x"])),
        changed(lambda one: one["headers"].update(task=None)),
        changed(lambda one: one.update(body="W10=")),
        changed(lambda one: one.update(body="[" * 9000)),
        changed(lambda one: one.update({"content-type": "application/x-python-serialize"})),
        message("os.system", {"command": "true"}),
        message("kerasweep.train", {"sweep": "../..", "trial": 0}),
        message("kerasweep.train", {"sweep": "abcdef0123", "trial": True}),
    ],
    ids=lambda junk: repr(junk[:24]),
)
def test_anything_but_a_hint_is_refused(junk: bytes) -> None:
    with pytest.raises(InputError):
        read_envelope(QUEUE, junk)


def test_a_hint_is_rebuilt_from_its_known_parts() -> None:
    def burden(one: dict[str, Any]) -> None:
        one["headers"].update(timelimit="x", retries="y", stamps=[[]], compression="zlib", group={}, chord=1)
        one["properties"].update(delivery_tag=["no", "tag"], delivery_info=None, reply_to={})

    text = changed(burden)
    found = read_envelope(QUEUE, text)
    assert set(found["headers"]) == {
        "lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr"
    }  # fmt: skip
    assert isinstance(found["properties"]["delivery_tag"], str)
    assert found["properties"]["taken"] == [QUEUE, text.decode()]


def test_a_redis_out_of_memory_is_out_of_reach(queue: HintQueue, client: Any) -> None:
    client.config_set("maxmemory", 1)
    with pytest.raises(OutOfReach, match="maxmemory"):
        queue.send(hints(1))


def test_a_hint_id_is_read_back() -> None:
    assert trial_of_hint_id(ID) == TrialKey("abcdef0123", 1)

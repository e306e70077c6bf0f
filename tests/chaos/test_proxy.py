"""The proxy forwards, duplicates, cuts and freezes, in front of a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from chaos.proxy import Commands, Proxy, encode

from kerasweep.scheduler.local.redis_server import RedisServer


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    made = Proxy(lambda: str(redis_server.socket_path))
    yield made
    made.close()


def client_of(proxy: Proxy, **options: float) -> redis.Redis:
    return redis.Redis.from_url(proxy.url, retry=None, **options)


def test_everything_passes(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        value = bytes(range(256)) * 4096
        client.set("key", value)
        assert client.get("key") == value


def test_messages_come_twice(proxy: Proxy) -> None:
    proxy.doubled = True
    with client_of(proxy) as client, client.pipeline() as pipe:
        pipe.lpush("queue", b"one\r\n$3\r\ntwo")
        pipe.set("other", "1")
        assert pipe.execute() == [2, True]
        assert client.lrange("queue", 0, -1) == [b"one\r\n$3\r\ntwo"] * 2
    assert proxy.doubled_messages == 1


def test_a_cut_ends_connections_and_refuses_new_ones(proxy: Proxy) -> None:
    with client_of(proxy) as client:
        client.ping()
        proxy.cut()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
        proxy.heal()
        assert client.ping()


def test_a_freeze_keeps_connections_open_and_silent(proxy: Proxy) -> None:
    with client_of(proxy, socket_timeout=0.2) as client:
        client.ping()
        proxy.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        proxy.heal()
        assert client.ping()


def test_commands_are_cut_at_any_byte() -> None:
    stream = encode([b"LPUSH", b"queue", b"x\r\n*1\r\n"]) + encode([b"PING"])
    for at in range(len(stream)):
        commands = Commands()
        found = [*commands.feed(stream[:at]), *commands.feed(stream[at:])]
        assert found == [[b"LPUSH", b"queue", b"x\r\n*1\r\n"], [b"PING"]]

"""Tests docs/security.md: exactly its Redis ACL, behind TLS with a private CA."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from guarded_redis import PASSWORD, QUOTED, TlsFront, start_guarded
from servers import free_port

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.broker import HintQueue, new_app
from kerasweep.scheduler.cli.processes import flower_command, flower_environ


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Any]:
    """A Redis under the documented ACL; an administrator's client."""
    port = free_port()
    process = start_guarded(tmp_path, port)
    with redis.Redis(port=port, username="admin", password="x") as admin:
        admin.port = port
        yield admin
    process.kill()
    process.wait()


def denied(admin: Any) -> list[tuple[str, str, str]]:
    """Return what was denied to whom; `CLIENT SETINFO` is ignored, since clients do without it."""
    entries = [{str(key): str(value) for key, value in entry.items()} for entry in admin.acl_log()]
    return [
        (entry["username"], entry["reason"], entry["object"])
        for entry in entries
        if not entry["object"].startswith("client")
    ]


def test_the_acl_is_enough_for_each_and_tls_with_a_private_ca_works(
    guarded: Any, cluster: Any, until: Any, tmp_path: Path
) -> None:
    until(guarded.ping, 20)
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    front, impostor = TlsFront(guarded.port, authority), TlsFront(guarded.port, stranger)
    ca = f"ssl_ca_certs={tmp_path / 'ca.crt'}"

    def url(user: str, port: int, scheme: str = "rediss", query: str = f"?{ca}") -> str:
        return f"{scheme}://{user}:{QUOTED}@127.0.0.1:{port}/0{query}"

    cluster.settings = replace(cluster.settings, broker_url=url("scheduler", front.port))
    cluster.scheduler()
    cluster.settings = replace(cluster.settings, broker_url=url("worker", front.port))
    cluster.stub_worker("--name=w0")
    cluster.queue.close()
    cluster.queue = HintQueue(url("submit", guarded.port, "redis", ""))
    flower_port = free_port()
    environ = flower_environ({}, url("flower", guarded.port, "redis", ""), None)
    words = flower_command(flower_port, "127.0.0.1")[1:]
    cluster._run("flower", words, {**environ, "FLOWER_UNAUTHENTICATED_API": "true"})
    sweep = cluster.submit_stub(epochs=6, epoch_s=0.3)

    def ended_without_a_denial() -> bool:
        assert denied(guarded) == []
        return bool(cluster.ended(sweep)())

    until(ended_without_a_denial, 40)
    assert cluster.outcomes(sweep) == ["completed"]

    def seen_by_flower() -> bool:
        page = f"http://127.0.0.1:{flower_port}/api/workers?refresh=1"
        with contextlib.suppress(OSError), urllib.request.urlopen(page, timeout=15) as answer:
            return b"w0" in answer.read()
        return False

    until(seen_by_flower, 40)
    assert denied(guarded) == []

    for port, query in ((front.port, ""), (impostor.port, f"?{ca}")):
        refused = url("submit", port, query=query)
        with pytest.raises(OutOfReach, match=r"(?i)certificate"):
            HintQueue(refused).ping()
        with (
            pytest.raises(Exception, match=r"(?i)certificate"),
            new_app(refused).connection_for_read() as line,
        ):
            line.connect()
    front.close()
    impostor.close()


def test_the_acl_is_no_more_than_is_needed(guarded: Any, until: Any) -> None:
    until(guarded.ping, 20)
    for user in ("scheduler", "worker", "submit", "flower"):
        with redis.Redis(port=guarded.port, username=user, password=PASSWORD) as client:
            for command in (
                ("FLUSHALL",),
                ("CONFIG", "GET", "*"),
                ("KEYS", "*"),
                ("SET", "other", "x"),
                ("DEBUG", "SLEEP", "0"),
            ):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.publish("/0.elsewhere", "x")

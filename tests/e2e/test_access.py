"""Tests docs/security.md: exactly its Redis ACL, behind TLS with a private CA."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from servers import free_port

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.broker import HintQueue, new_app
from kerasweep.scheduler.cli.processes import flower_command, flower_environ
from kerasweep.scheduler.local.redis_server import find_binary

DOC = Path(__file__).parents[2] / "docs" / "security.md"
#: As a user may choose it, and as it is written in a URL.
PASSWORD, QUOTED = "p@ss:w/rd#%25", "p%40ss%3Aw%2Frd%23%2525"


class TlsFront:
    """Terminates TLS in front of a server that cannot.

    Args:
        port: of the server behind.
        authority: the CA that signs its certificate.
    """

    def __init__(self, port: int, authority: trustme.CA) -> None:
        self._behind = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            secret = self._context.wrap_socket(line, server_side=True)
            with secret, socket.create_connection(("127.0.0.1", self._behind)) as plain:
                threading.Thread(target=_pump, args=(plain, secret), daemon=True).start()
                _pump(secret, plain)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def acl_of_the_doc() -> str:
    [block] = re.findall(r"```acl\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    return str(block).replace("user default off\n", "").replace("PASSWORD", PASSWORD)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Any]:
    """A Redis under the documented ACL; an administrator's client."""
    users = tmp_path / "users.acl"
    users.write_text(f"user admin on nopass ~* &* +@all\nuser default off\n{acl_of_the_doc()}")
    binary, port = find_binary(), free_port()
    assert binary is not None
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--aclfile", str(users)]
    process = subprocess.Popen([binary, *words], cwd=tmp_path, stdout=subprocess.DEVNULL)
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

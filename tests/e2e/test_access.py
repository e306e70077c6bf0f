"""Tests docs/security.md: exactly its Redis ACL, behind TLS with a private CA."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from guarded_redis import DOC, PASSWORD, QUOTED, PostgresTlsFront, TlsFront, start_guarded
from refusing_s3 import Policy, RefusingS3
from servers import PostgresServer, S3Server, free_port
from sqlalchemy import make_url

from kerasweep.jobs.errors import Damaged, InputError, OutOfReach
from kerasweep.jobs.queue.broker import HintQueue, new_app
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.records import Records
from kerasweep.scheduler.cli.processes import flower_command, flower_environ
from kerasweep.scheduler.web.listening import expect_pair


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


def test_the_records_are_reached_only_where_the_certificate_is_verified(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    database = make_url(postgres_url).database
    behind = postgres_server.folder / f".s.PGSQL.{postgres_server.port}"

    def reached(signer: trustme.CA, name: str) -> bool:
        front = PostgresTlsFront(behind, signer, name)
        url = f"postgresql://postgres@127.0.0.1:{front.port}/{database}"
        records = Records(f"{url}?sslmode=verify-full&sslrootcert={tmp_path / 'ca.crt'}", reach_s=5.0)
        with contextlib.closing(front), contextlib.closing(records):
            return records.sweeps() == []

    assert reached(authority, "127.0.0.1")
    with pytest.raises(OutOfReach, match="certificate verify failed"):
        reached(stranger, "127.0.0.1")
    with pytest.raises(OutOfReach, match="does not match host name"):
        reached(authority, "10.0.0.9")


@pytest.fixture
def tls_recipe(tmp_path: Path) -> list[str]:
    """The document's commands about TLS, for 127.0.0.1; those before the server's have run in `tmp_path`."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    [section] = re.findall(r"## TLS with a private CA\n(.*?)\n## ", DOC.read_text(encoding="utf-8"), re.S)
    text = "".join(re.findall(r"```sh\n(.*?)```", section, re.S)).replace("10.0.0.5", "127.0.0.1")
    commands = text.replace("\\\n", "").splitlines()
    server = next(n for n, command in enumerate(commands) if command.startswith("redis-server"))
    script = "set -e\n" + "\n".join(commands[:server])
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    return commands


def test_the_page_is_served_with_a_certificate_of_the_recipe(
    tls_recipe: list[str], tmp_path: Path, until: Any
) -> None:
    [command] = [one for one in tls_recipe if one.startswith("kerasweep dashboard")]
    (tmp_path / "secret.txt").write_text("hush\n")
    port = free_port()
    program = str(Path(sys.executable).parent / "kerasweep")
    words = [program, *shlex.split(command)[1:], f"--port={port}", f"--home={tmp_path / 'home'}"]
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by default
    page = urllib.request.Request(
        f"https://127.0.0.1:{port}/sweeps", headers={"Authorization": "Basic eDpodXNo"}
    )

    def served() -> bool:
        assert process.poll() is None
        ask = partial(urllib.request.urlopen, page, timeout=10, context=trusting)
        with contextlib.suppress(urllib.error.URLError), ask() as answer:
            return b"<html" in answer.read()
        return False

    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            until(served, 60)
            with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
                urllib.request.urlopen(page, timeout=10)
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(page.full_url, timeout=10, context=trusting)
        finally:
            process.terminate()
    assert process.returncode == 0
    with pytest.raises(InputError, match=r"redis.crt and \S+ca.key"):
        expect_pair(tmp_path / "redis.crt", tmp_path / "ca.key")


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


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that opens artifacts under some of the statements of the document's S3 policy."""
    [block] = re.findall(r"```json\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    with S3Server() as server, RefusingS3(server.url) as front:
        for name, value in {**server.environment, "AWS_ENDPOINT_URL": front.url}.items():
            monkeypatch.setenv(name, value)

        def opened(*without: str) -> tuple[Artifacts, RefusingS3]:
            statements = json.loads(block.replace("BUCKET", server.bucket))["Statement"]
            for one in statements:
                one["Action"] = [action for action in one["Action"] if action not in without]
            front.policy, front.refusals = Policy(statements), 0
            return Artifacts(f"s3://{server.bucket}/sweeps", skip_instance_cache=True), front

        yield opened


def test_the_s3_policy_is_enough(allowed: Any, tmp_path: Path) -> None:
    artifacts, front = allowed()
    sha256, _ = artifacts.put("sweeps/a/model.keras", b"x" * 1000)
    (tmp_path / "file").write_bytes(b"y" * 1000)
    artifacts.put_file("sweeps/b/model.keras", tmp_path / "file")
    assert artifacts.get("sweeps/a/model.keras", sha256) == b"x" * 1000
    assert artifacts.peek("store.json") is None
    with pytest.raises(Damaged, match="it is gone"):
        artifacts.get("sweeps/c/model.keras", sha256)
    assert artifacts.keys("sweeps") == ["sweeps/a/model.keras", "sweeps/b/model.keras"]
    artifacts.delete("sweeps/a/model.keras")
    assert artifacts.delete_below("sweeps/b") == 1000
    assert artifacts.keys() == []
    assert front.refusals == 0


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"])
def test_each_part_of_the_s3_policy_is_needed(allowed: Any, action: str) -> None:
    artifacts, _ = allowed(action)

    def use() -> None:
        sha256, _ = artifacts.put("sweeps/a/model.keras", b"x")
        artifacts.get("sweeps/a/model.keras", sha256)
        artifacts.peek("store.json")
        artifacts.delete("sweeps/a/model.keras")

    with pytest.raises(OutOfReach):
        use()

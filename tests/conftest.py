"""Fixtures for all tests."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from servers import PostgresServer, S3Server

from kerasweep.scheduler.local.redis_server import RedisServer

Until = Callable[..., None]

#: How many times longer than on an idle machine something may take: a deadline is for what never happens.
_PATIENCE = 3.0


# No deadline for each example: on a busy machine one may take long, and the whole test has a timeout.
settings.register_profile("kerasweep", deadline=None)
settings.load_profile("kerasweep")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first, then those that train: the last ones to run should be quick."""
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())
    items.sort(key=lambda item: (not marks[item.path] & {"slow"}, not marks[item.path] & {"tf"}))


@pytest.fixture
def until() -> Until:
    """Return a function that waits until a condition holds, and fails the test if it does not in time.

    It takes the seconds in which the condition must hold on an idle machine.
    """

    def wait(condition: Callable[[], object], within_s: float = 20.0, what: str = "the condition") -> None:
        began = time.monotonic()
        deadline = began + _PATIENCE * within_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what} did not hold within {_PATIENCE * within_s:g} s")
            # One that starts a process or asks a store must not take the core from what it waits for.
            time.sleep(min(0.25, max(0.01, 4 * (time.monotonic() - began))))
            began = time.monotonic()

    return wait


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis in a private folder, for one test."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Return a function that tells whether a process runs; zombies do not count."""

    def is_alive(pid: int) -> bool:
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
        except (ProcessLookupError, FileNotFoundError):
            return False

    return is_alive


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL for the whole run; a test that stops the server starts its own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, for one test."""
    name = postgres_server.new_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="pip install 'kerasweep[test]'")
    pytest.importorskip("moto", reason="pip install 'kerasweep[test]'")
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_url(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty location on a local S3 server; child processes can reach it too."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{_s3_server.bucket}/{secrets.token_hex(4)}"

"""The guard between worker and trainer: what a job does to its parent, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from kerasweep.workers.guard import GUARDS, guarded

pytestmark = pytest.mark.skipif(not GUARDS, reason="there is a guard on Linux alone")

JOB = """
import os, subprocess, sys, time
for number in (1, 2, 10, 15):
    os.kill(os.getppid(), number)
subprocess.Popen(["sleep", "317"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "317"])
    os._exit(0)
open(sys.argv[1], "w").close()
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
if sys.argv[2] == "waits":
    time.sleep(317)
os._exit(7)
"""


def sleepers(mark: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter(["cmdline", "status"]):
        if one.info["cmdline"] == ["sleep", "317"] and one.info["status"] != psutil.STATUS_ZOMBIE:
            found += [one] if one.environ().get("TEST_MARK") == mark else []
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(tmp_path: Path, how: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "TEST_MARK": str(tmp_path)}
    command, environ = guarded([sys.executable, "-c", JOB, str(tmp_path / "begun"), how], environ)
    process = subprocess.Popen(command, env=environ, start_new_session=True)
    until((tmp_path / "begun").exists)
    return process


@pytest.mark.parametrize(("how", "code"), [("exits", 7), ("killed", -9)])
def test_ends_as_the_trainer_does_and_leaves_nothing(tmp_path: Path, how: str, code: int) -> None:
    assert start(tmp_path, how).wait(30) == code
    assert sleepers(str(tmp_path)) == []


def test_the_worker_ends_the_trainer_with_all_that_it_started(tmp_path: Path) -> None:
    process = start(tmp_path, "waits")
    until(lambda: len(sleepers(str(tmp_path))) == 2)
    assert process.poll() is None, "what a job sends to its parent ends nothing"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -9
    assert sleepers(str(tmp_path)) == []


def test_a_killed_worker_takes_everything_along(tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; from test_guard import start; from pathlib import Path; "
    )
    program += f"start(Path({str(tmp_path)!r}), 'waits'); import time; time.sleep(300)"
    worker = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    )
    until(lambda: len(sleepers(str(tmp_path))) == 2)
    worker.kill()
    worker.wait(30)
    until(lambda: sleepers(str(tmp_path)) == [])

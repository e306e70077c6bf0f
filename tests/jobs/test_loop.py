"""The end of a Celery worker: on request, or because of an error."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

CONSUMER = """
import sys
from celery import bootsteps
from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.queue.loop import run_until_told
from kerasweep.jobs.queue.broker import new_app

class Doing(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent):
        {deed}

app = new_app(sys.argv[1])
app.steps["consumer"].add(Doing)
try:
    run_until_told(app, ["--pool", "threads", "--without-mingle", "--without-gossip"])
except KerasweepError as exc:
    sys.exit(f"error: {{exc}}")
"""


def run(redis_server: Any, deed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CONSUMER.format(deed=deed), redis_server.url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_celery_giving_up_is_not_a_normal_end(redis_server: Any) -> None:
    done = run(redis_server, "raise RuntimeError('of its own')")
    assert done.returncode == 1
    assert "error: Celery stopped without being told to" in done.stderr
    assert "of its own" in done.stderr


def test_celery_ends_normally_when_told_to(redis_server: Any) -> None:
    done = run(redis_server, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert (done.returncode, done.stderr.count("error:")) == (0, 0), done.stderr
    assert "shutdown" not in done.stdout + done.stderr, "Celery's own notice of the signal"

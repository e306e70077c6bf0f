"""The trainer's side of the pipe to its host: JSON lines, on file descriptors of their own.

The job's prints go to stdout and stderr and can never reach the pipe.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

_STEP_EVERY_S = 1.0


class Channel:
    """Sends events, from any thread, whole lines at a time.

    Args:
        descriptor: an open file descriptor to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._steps = 0

    def count(self, steps: int) -> int:
        """Count steps of any run; return how many there were in all."""
        with self._counting:
            self._steps += steps
            return self._steps

    def send(self, event: str, run: str | None = None, **fields: Any) -> None:
        """Send one event.

        Raises:
            BrokenPipeError: the host is gone.
        """
        message = {"ev": event, **({} if run is None else {"run": run}), **fields}
        line = memoryview(json.dumps(message, allow_nan=False).encode() + b"\n")
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


class StepPulse:
    """Tells the host that a run makes steps, at most once a second.

    Args:
        channel: where to.
        run: the run's name.
    """

    def __init__(self, channel: Channel, run: str) -> None:
        self._channel = channel
        self._run = run
        self._sent_at_s = 0.0
        self._steps = 0

    def beat(self, steps: int = 1) -> None:
        """Count steps, and tell the host if it is time."""
        self._steps += steps
        in_all = self._channel.count(steps)
        now_s = time.monotonic()
        if now_s - self._sent_at_s >= _STEP_EVERY_S:
            self._sent_at_s = now_s
            self._channel.send("step", self._run, step=self._steps, steps_in_all=in_all)


def read_messages(descriptor: int) -> Iterator[dict[str, Any]]:
    """Yield the host's messages until the pipe ends."""
    with os.fdopen(descriptor, "rb") as lines:
        for line in lines:
            yield json.loads(line)

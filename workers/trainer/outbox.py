"""The trainer's side of the pipe to its host, on separate file descriptors.

A job's output goes to stdout and stderr and never reaches the pipe. A child that a job forks is not a
trainer: it has neither end, and what it sends is dropped.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from kerasweep.jobs.errors import PipeDefect
from kerasweep.jobs.kernel import rss_bytes
from kerasweep.jobs.pipe import ORDERS, Event, Order, PipeReader, PipeWriter, StepEvent

_STEP_EVERY_S = 1.0
_CHUNK_BYTES = 1 << 16


class Outbox:
    """Sends events, from any thread, in whole lines.

    Args:
        descriptor: an open file descriptor to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writer = PipeWriter()
        self._counting = threading.Lock()
        self._steps = 0
        self._forked = False
        os.register_at_fork(after_in_child=self._leave)

    def count(self, steps: int) -> int:
        """Count steps of any run; return the total."""
        with self._counting:
            self._steps += steps
            return self._steps

    def send(self, event: Event) -> None:
        """Send one event.

        Raises:
            PipeDefect: a field has the wrong type.
            BrokenPipeError: the host is gone.
        """
        if self._forked:
            return
        with self._writer.lock:
            line = memoryview(self._writer.line(event))
            while line:
                line = line[os.write(self._descriptor, line) :]

    def _leave(self) -> None:
        self._forked = True
        _close(self._descriptor)


class StepPulse:
    """Tells the host that a run makes steps, at most once a second.

    Args:
        outbox: the destination.
        run: the run's name.
    """

    def __init__(self, outbox: Outbox, run: str) -> None:
        self._outbox = outbox
        self._run = run
        self._sent_at_s = 0.0
        self._steps = 0

    def beat(self, steps: int = 1) -> None:
        """Count steps, and tell the host if it is time."""
        self._steps += steps
        in_all = self._outbox.count(steps)
        now_s = time.monotonic()
        if now_s - self._sent_at_s >= _STEP_EVERY_S:
            self._sent_at_s = now_s
            self._outbox.send(StepEvent(self._run, self._steps, in_all, rss_bytes()))


def read_orders(descriptor: int) -> Iterator[Order | PipeDefect]:
    """Yield the host's orders until the pipe ends; a defect stands for each invalid one."""
    os.register_at_fork(after_in_child=lambda: _close(descriptor))
    reader = PipeReader(ORDERS)
    while data := os.read(descriptor, _CHUNK_BYTES):
        yield from reader.feed(data)


def _close(descriptor: int) -> None:
    """Close a descriptor in a forked child, keeping its number reserved."""
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, descriptor)
        os.close(nothing)

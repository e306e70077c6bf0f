"""Forwards a trainer's raw output on descriptors 1 and 2 to the worker's stderr, rate-limited."""

from __future__ import annotations

import os
import select
import threading
import time

#: The descriptor itself: Celery replaces `sys.stderr` with an object that has none.
_STDERR = 2
_CHUNK_BYTES = 1 << 16
_LOOK_MS = 500
#: This much at once, and this much for each second after that: enough for a library's warnings, not for a
#: job's data.
_BURST_BYTES, _BYTES_PER_S = 1 << 19, 1 << 11
_TELL_EVERY_S = 10.0


class Echo:
    """Copies a trainer's raw output for the life of the trainer; output beyond the limit is counted.

    Args:
        name: the trainer's.
        target: the descriptor to write to.
    """

    def __init__(self, name: str, target: int = _STDERR) -> None:
        self._name, self._target = name, target
        self._source, self.descriptor = os.pipe()
        self._room, self._refilled_at = float(_BURST_BYTES), time.monotonic()
        self._left_out, self._told_at = 0, 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._copy, name=f"output of {name}", daemon=True)

    def start(self) -> None:
        """Start copying; from now on only the trainer holds the other end."""
        os.close(self.descriptor)
        self._thread.start()

    def end(self) -> None:
        """Copy the remaining output and stop, even if a process left behind holds the other end."""
        self._ended.set()
        self._thread.join()

    def discard(self) -> None:
        """Close both ends; the trainer did not start."""
        os.close(self.descriptor)
        os.close(self._source)

    def _copy(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        try:
            while True:
                if poll.poll(0 if self._ended.is_set() else _LOOK_MS):
                    data = os.read(self._source, _CHUNK_BYTES)
                    if not data:
                        break
                    self._pass_on(data)
                elif self._ended.is_set():
                    break
                self._tell(_TELL_EVERY_S)
            self._tell(0.0)
        finally:
            os.close(self._source)

    def _pass_on(self, data: bytes) -> None:
        now = time.monotonic()
        self._room = min(_BURST_BYTES, self._room + (now - self._refilled_at) * _BYTES_PER_S)
        self._refilled_at = now
        kept = data[: int(self._room)]
        self._room -= len(kept)
        self._left_out += len(data) - len(kept)
        self._write(kept)

    def _tell(self, every_s: float) -> None:
        if self._left_out and time.monotonic() - self._told_at >= every_s:
            self._write(b"\n[%d bytes of trainer %s left out]\n" % (self._left_out, self._name.encode()))
            self._left_out, self._told_at = 0, time.monotonic()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._target, rest) :]
        except OSError:  # nobody reads the worker's own output any more, or its disk is full
            return

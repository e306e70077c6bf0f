"""A trainer's raw output, past Python to descriptors 1 and 2, goes to the worker's stderr within bounds."""

from __future__ import annotations

import os
import select
import threading
import time

#: The descriptor itself: Celery puts an object without one in the place of `sys.stderr`.
_STDERR = 2
_CHUNK_BYTES = 1 << 16
_LOOK_MS = 500
#: So much at once, and so much for each second after that: a library's warnings, not a job's data.
_BURST_BYTES, _BYTES_PER_S = 1 << 19, 1 << 11
_TELL_EVERY_S = 10.0


class Echo:
    """Copies a trainer's raw output for as long as the trainer lives; what is beyond the bounds is counted.

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
        """Begin to copy; from now on the trainer alone holds the other end."""
        os.close(self.descriptor)
        self._thread.start()

    def end(self) -> None:
        """Copy what is there and end, even where a process that was left behind holds the other end."""
        self._ended.set()
        self._thread.join()

    def discard(self) -> None:
        """Close both ends; no trainer came of it."""
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

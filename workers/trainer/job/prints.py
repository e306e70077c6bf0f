"""What a job prints goes to the log of its own run, whichever thread of the trainer trains it."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_FLUSH_EVERY_S = 0.5
_LINE_CHARS = 2_000
_LINES_PER_FLUSH = 200
#: Of one write so much is looked at, from its beginning and from its end; of the rest the lines are counted.
_WRITE_CHARS, _WRITE_TAIL_CHARS = 1 << 20, 4_000
#: Of a run's prints so much is kept at once, and so much for each second after that.
_RUN_CHARS, _RUN_CHARS_PER_S = 4 << 20, 2_000.0


class RunLog:
    """Gathers a run's printed lines and hands them on, a few times a second at most.

    Of a job that prints without end the first lines of each half second are kept, up to some MiB in all; the
    rest are counted. A line is cut after 2,000 characters, with a word about it.

    Args:
        send: takes lines joined by newlines.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._dropped = 0
        self._partial = ""
        self._sent_at_s = 0.0
        self._room, self._refilled_at_s = float(_RUN_CHARS), time.monotonic()

    def write(self, text: str) -> None:
        """Take printed text, whole lines or parts of them, in time linear in its length."""
        with self._lock:
            if len(text) > _WRITE_CHARS:
                end = len(text) - _WRITE_TAIL_CHARS
                self._take(text[:_WRITE_CHARS])
                self._dropped += text.count("\n", _WRITE_CHARS, end)
                text = text[end:]
            self._take(text)
            due = time.monotonic() - self._sent_at_s >= _FLUSH_EVERY_S
        if due:
            self.flush()

    def _take(self, text: str) -> None:
        *lines, self._partial = (self._partial + text).split("\n")
        self._partial = self._partial[-_LINE_CHARS:]
        for line in lines:
            self._keep(line)

    def flush(self, partial: bool = False) -> None:
        """Send what was gathered; `partial` sends a line without its end too."""
        with self._lock:
            if partial and self._partial:
                self._keep(self._partial)
                self._partial = ""
            lines, self._lines = self._lines, []
            if self._dropped:
                lines.append(f"[{self._dropped} more lines are left out]")
                self._dropped = 0
            if not lines:
                return
            self._sent_at_s = time.monotonic()
            self._send("\n".join(lines))

    def _keep(self, line: str) -> None:
        if len(self._lines) >= _LINES_PER_FLUSH or not self._has_room():
            self._dropped += 1
            return
        # A progress bar overwrites its line; what stands at the end is what a person would see.
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]
        if len(shown) > _LINE_CHARS:
            shown = f"{shown[:_LINE_CHARS]} … [{len(shown) - _LINE_CHARS} characters left out]"
        self._lines.append(shown)
        self._room -= len(shown) + 1

    def _has_room(self) -> bool:
        now_s = time.monotonic()
        self._room = min(_RUN_CHARS, self._room + (now_s - self._refilled_at_s) * _RUN_CHARS_PER_S)
        self._refilled_at_s = now_s
        return self._room > 0


class _Router(io.TextIOBase):
    """A stream that finds the run of the thread that writes."""

    def __init__(self, prints: Prints, fallback: TextIO) -> None:
        self._prints = prints
        self._fallback = fallback

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._fallback.fileno()

    def write(self, text: str) -> int:
        log = self._prints.current()
        if log is None:
            self._fallback.write(text)
        else:
            log.write(text)
        return len(text)

    def flush(self) -> None:
        self._fallback.flush()


class Prints:
    """Routes `sys.stdout` and `sys.stderr` to the log of the run whose thread writes.

    A thread that the job itself started belongs to the only live run, where there is only one;
    otherwise its prints go to the trainer's own stderr.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._live: list[RunLog] = []

    def install(self) -> None:
        """Take over the process's streams; from now on nothing that is printed waits for long."""
        threading.Thread(target=self._flush_often, name="prints", daemon=True).start()
        sys.stdout = _Router(self, sys.__stdout__)  # type: ignore[arg-type]
        sys.stderr = _Router(self, sys.__stderr__)  # type: ignore[arg-type]

    def current(self) -> RunLog | None:
        """Return the log that this thread's prints belong to."""
        log: RunLog | None = getattr(self._local, "log", None)
        if log is None and len(self._live) == 1 and threading.current_thread() is not threading.main_thread():
            return self._live[0]
        return log

    def _flush_often(self) -> None:
        while True:
            time.sleep(_FLUSH_EVERY_S)
            for log in list(self._live):
                log.flush()

    @contextmanager
    def into(self, log: RunLog) -> Iterator[None]:
        """Send this thread's prints into `log`."""
        self._local.log = log
        self._live.append(log)
        try:
            yield
        finally:
            self._local.log = None
            self._live.remove(log)

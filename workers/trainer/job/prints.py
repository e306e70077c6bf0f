"""Routes a job's output to the log of its own run, whichever thread of the trainer trains it."""

from __future__ import annotations

import codecs
import io
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from kerasweep.workers.trainer.job import enclave
from kerasweep.workers.trainer.job.enclave import Enclave, current
from kerasweep.workers.trainer.process import own_streams

_FLUSH_EVERY_S = 0.5
_LINE_CHARS = 2_000
_LINES_PER_FLUSH = 200
#: How much of one write is processed, from its beginning and from its end; lines in the rest are counted.
_WRITE_CHARS, _WRITE_TAIL_CHARS = 1 << 20, 4_000
#: How much of a run's output is kept at once, and for each second after that.
_RUN_CHARS, _RUN_CHARS_PER_S = 4 << 20, 2_000.0


class RunLog:
    """Collects a run's printed lines and forwards them, at most a few times a second.

    If a job prints endlessly, the first lines of each half second are kept, up to a few MiB in all; the rest
    are counted. A line is cut after 2,000 characters, with a note.

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
        """Send what was collected; `partial` also sends an unfinished line."""
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
        # A progress bar overwrites its line; its final content is what the user would see.
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


class _Bytes(io.BufferedIOBase):
    """The binary layer of a routed stream: bytes for the same log.

    Args:
        stream: the text layer.
    """

    def __init__(self, stream: RoutedStream) -> None:
        self._stream = stream

    @property
    def raw(self) -> io.RawIOBase:
        """The stream itself: nothing is buffered here."""
        return self  # type: ignore[return-value]

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._stream.name

    @property
    def mode(self) -> str:
        """The mode of a binary output stream."""
        return "wb"

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the process's own descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return False."""
        return False

    def write(self, data: Any) -> int:
        """Write bytes, which may end in the middle of a character."""
        data = bytes(data)
        self._stream.write_bytes(data)
        return len(data)

    def flush(self) -> None:
        """Flush the stream."""
        if not self.closed:
            self._stream.flush()

    def close(self) -> None:
        """Stay open: others write here too."""


class RoutedStream(io.TextIOWrapper):
    """A complete text stream that writes to the log of the calling thread's trial.

    Args:
        fallback: receives output of threads without a trial.
    """

    def __init__(self, fallback: TextIO | None) -> None:
        self._fallback = fallback or io.StringIO()
        self._decoders = threading.local()
        super().__init__(_Bytes(self), "utf-8", errors="backslashreplace", write_through=True)

    @property
    def name(self) -> str:
        """Such as `<stdout>`."""
        return str(getattr(self._fallback, "name", ""))

    @property
    def mode(self) -> str:
        """The mode of a text output stream."""
        return "w"

    def fileno(self) -> int:
        """Return the process's own descriptor."""
        return self._fallback.fileno()

    def isatty(self) -> bool:
        """Return False."""
        return False

    def reconfigure(self, **_settings: Any) -> None:
        """Accept any settings, but keep UTF-8 and whole lines: others write here too."""

    def write(self, text: str) -> int:
        """Write to the log of the calling thread's trial."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        own = current()
        if own is None or own.printed is None:
            self._fallback.write(text)
        else:
            own.printed.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Write the lines one after the other."""
        for line in lines:
            self.write(line)

    def write_bytes(self, data: bytes) -> None:
        """Write UTF-8, holding an incomplete character until the rest arrives."""
        if not hasattr(self._decoders, "one"):
            self._decoders.one = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.write(self._decoders.one.decode(data))

    def flush(self) -> None:
        """Flush the process's own stream; the logs flush themselves."""
        self._fallback.flush()

    def close(self) -> None:
        """Stay open: others write here too."""

    def detach(self) -> Any:
        """Return the binary stream, and stay usable."""
        return self.buffer


class Prints:
    """Routes `sys.stdout` and `sys.stderr` to the log of the trial whose thread writes."""

    def __init__(self) -> None:
        self._live: list[RunLog] = []

    def install(self) -> None:
        """Replace the process's streams; from now on output is forwarded quickly."""
        threading.Thread(target=self._flush_often, name="prints", daemon=True).start()
        sys.stdout = RoutedStream(sys.__stdout__)
        sys.stderr = RoutedStream(sys.__stderr__)
        own_streams.install()
        enclave.install()

    def _flush_often(self) -> None:
        while True:
            time.sleep(_FLUSH_EVERY_S)
            for log in list(self._live):
                log.flush()

    @contextmanager
    def into(self, log: RunLog) -> Iterator[None]:
        """Give this thread an enclave, and send its output to `log`."""
        self._live.append(log)
        try:
            with Enclave(log).entered():
                yield
            log.flush(partial=True)  # what the trial's endings printed
        finally:
            self._live.remove(log)

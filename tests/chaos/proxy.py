"""A small TCP proxy in front of Redis that simulates network failures and duplicate messages."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

_CHUNK_BYTES = 1 << 16
_LISTEN = 128


class Proxy:
    """Listens on a loopback port and forwards everything to a unix socket.

    Args:
        target: returns the socket's path, at each new connection.
        doubled: deliver every message twice: `LPUSH queue message` becomes `LPUSH queue message message`.
    """

    def __init__(self, target: Callable[[], str], *, doubled: bool = False) -> None:
        self._target, self.doubled = target, doubled
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_LISTEN)
        self.port = int(self._listener.getsockname()[1])
        self.doubled_messages = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        """The broker URL for Celery."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Drop every connection, and every new one at once."""
        self._refusing = True
        self._drop()

    def freeze(self) -> None:
        """Forward nothing; connections stay open, as behind a dead router."""
        self._open.clear()

    def heal(self) -> None:
        """Forward everything again."""
        self._refusing = False
        self._open.set()

    def drop(self) -> None:
        """Drop every connection once; new ones are accepted."""
        self._drop()

    def close(self) -> None:
        """Stop listening and drop everything."""
        self._closed = True
        self._open.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()

    def _drop(self) -> None:
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        try:
            if self._refusing:
                raise ConnectionRefusedError
            server.connect(self._target())
        except OSError:
            client.close()
            server.close()
            return
        with self._lock:
            self._sockets |= {client, server}
        threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()
        self._pump(client, server, True)

    def _pump(self, source: socket.socket, sink: socket.socket, upward: bool) -> None:
        """Forward incoming data, in whole commands if messages are duplicated."""
        commands = Commands()
        try:
            while data := source.recv(_CHUNK_BYTES):
                self._open.wait()
                sink.sendall(self._twice(commands.feed(data)) if upward and self.doubled else data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._sockets -= {source, sink}
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def _twice(self, commands: Iterator[list[bytes]]) -> bytes:
        out = []
        for words in commands:
            if len(words) == 3 and words[0].upper() == b"LPUSH":
                words = [*words, words[2]]
                self.doubled_messages += 1
            out.append(encode(words))
        return b"".join(out)


class Commands:
    """Splits a stream of Redis commands (arrays of bulk strings) into commands."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """Take in bytes and return the commands that are complete."""
        self._buffer += data
        while (end := self._whole()) is not None:
            words, used = end
            del self._buffer[:used]
            yield words

    def _whole(self) -> tuple[list[bytes], int] | None:
        count, at = self._number(b"*", 0)
        words = []
        for _ in range(count if at else 0):
            size, start = self._number(b"$", at)
            if not start or len(self._buffer) < start + size + 2:
                return None
            words.append(bytes(self._buffer[start : start + size]))
            at = start + size + 2
        return (words, at) if at else None

    def _number(self, sign: bytes, at: int) -> tuple[int, int]:
        """Return the number in the line at `at`, and the end of the line; 0, 0 if incomplete."""
        end = self._buffer.find(b"\r\n", at)
        if end < 0:
            return 0, 0
        if self._buffer[at : at + 1] != sign:
            raise OSError(f"not a Redis command: {bytes(self._buffer[at:end])[:40]!r}")
        return int(self._buffer[at + 1 : end]), end + 2


def encode(words: list[bytes]) -> bytes:
    """Encode a command for Redis."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

"""A Redis as in docs/security.md: with its ACL, behind TLS with a private CA."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import subprocess
import threading
from pathlib import Path

import trustme

from kerasweep.scheduler.local.redis_server import find_binary

DOC = Path(__file__).parents[1] / "docs" / "security.md"
#: As a user may choose it, and as it is written in a URL.
PASSWORD, QUOTED = "p@ss:w/rd#%25", "p%40ss%3Aw%2Frd%23%2525"


_SSL_REQUEST = 80_877_103


class TlsFront:
    """Terminates TLS in front of a server that cannot.

    Args:
        behind: the port of the server on 127.0.0.1.
        authority: the CA that signs its certificate.
        address: the address to listen on.
        port: the port; by default a free one.
        name: the host in its certificate; by default the address.
    """

    def __init__(
        self,
        behind: int,
        authority: trustme.CA,
        address: str = "127.0.0.1",
        port: int = 0,
        name: str | None = None,
    ) -> None:
        self._behind = behind
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name or address).configure_cert(self._context)
        self._listener = socket.create_server((address, port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            self._greet(line)
            secret = self._context.wrap_socket(line, server_side=True)
            with secret, self._reach() as plain:
                threading.Thread(target=_pump, args=(plain, secret), daemon=True).start()
                _pump(secret, plain)

    def _greet(self, line: socket.socket) -> None:
        """Exchange what the protocol has before TLS begins."""

    def _reach(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._behind))


class PostgresTlsFront(TlsFront):
    """Terminates TLS in front of a PostgreSQL server on a Unix socket.

    Args:
        behind: the socket's path.
        authority: the CA that signs its certificate.
        name: the host in it.
    """

    def __init__(self, behind: Path, authority: trustme.CA, name: str) -> None:
        self._path = behind
        super().__init__(0, authority, name=name)

    def _greet(self, line: socket.socket) -> None:
        """Accept an SSLRequest, after refusing a GSSENCRequest (protocol 3.0, "Message Formats")."""
        while True:
            _, code = struct.unpack("!ii", line.recv(8, socket.MSG_WAITALL))
            line.sendall(b"S" if code == _SSL_REQUEST else b"N")
            if code == _SSL_REQUEST:
                return

    def _reach(self) -> socket.socket:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(str(self._path))
        return plain


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def acl_of_the_doc() -> str:
    [block] = re.findall(r"```acl\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    return str(block).replace("user default off\n", "").replace("PASSWORD", PASSWORD)


def start_guarded(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a Redis on a port of 127.0.0.1, with the documented users and an administrator."""
    users = folder / "users.acl"
    users.write_text(f"user admin on nopass ~* &* +@all\nuser default off\n{acl_of_the_doc()}")
    binary = find_binary()
    assert binary is not None
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--aclfile", str(users)]
    return subprocess.Popen([binary, *words], cwd=folder, stdout=subprocess.DEVNULL)

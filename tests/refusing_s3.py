"""An S3 that refuses on request: a proxy in front of a server that answers 403 as a policy would."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)


class RefusingS3:
    """Passes requests on to an S3 server, except those that are refused.

    `refused` holds (method, part of the path) pairs.

    Args:
        url: the server's.
    """

    def __init__(self, url: str) -> None:
        self.refused: set[tuple[str, str]] = set()
        self.refusals = 0
        handler = type("Handler", (_Handler,), {"front": self, "behind": url.removeprefix("http://")})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def refuses(self, method: str, path: str) -> bool:
        """Tell whether a request is refused, and count it if so."""
        found = any(method == one and part in path for one, part in self.refused)
        self.refusals += found
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: RefusingS3
    behind: str

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.front.refuses(self.command, self.path):
            self._answer(403, [("Content-Type", "application/xml")], _DENIED)
            return
        line = http.client.HTTPConnection(self.behind, timeout=30)
        line.request(self.command, self.path, body, dict(self.headers))
        answer = line.getresponse()
        dropped = {"transfer-encoding", "connection", "content-length"}
        headers = [one for one in answer.getheaders() if one[0].lower() not in dropped]
        content = answer.read()
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(answer.status, headers, content, length)
        line.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle  # noqa: N815

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

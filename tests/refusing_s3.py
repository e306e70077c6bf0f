"""An S3 that refuses on request: a proxy in front of a server that answers 403 as a policy would."""

from __future__ import annotations

import http.client
import threading
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
)


class Policy:
    """An IAM policy of Allow statements, as far as S3 requests need it; of conditions it supports
    `s3:prefix`.

    Args:
        statements: as in the policy's JSON.
    """

    def __init__(self, statements: list[dict[str, Any]]) -> None:
        self._statements = statements

    def allows(self, method: str, path: str) -> bool:
        """Tell whether a request is allowed."""
        url = urlsplit(path)
        bucket, _, key = unquote(url.path).strip("/").partition("/")
        query = parse_qs(url.query, keep_blank_values=True)
        if key:
            actions = {"GET": "GetObject", "HEAD": "GetObject", "DELETE": "DeleteObject"}
            return self._grants(actions.get(method, "PutObject"), f"{bucket}/{key}", None)
        if "delete" in query:
            return self._grants("DeleteObject", f"{bucket}/sweeps/any", None)
        if "location" in query:
            return self._grants("GetBucketLocation", bucket, None)
        listed = self._grants("ListBucket", bucket, query.get("prefix", [None])[0])
        return listed and method in ("GET", "HEAD")

    def may_list(self, path: str) -> bool:
        """Tell whether a missing key may be reported as missing: only to clients that may list the bucket."""
        return self._grants("ListBucket", unquote(urlsplit(path).path).strip("/").partition("/")[0], None)

    def _grants(self, action: str, resource: str, prefix: str | None) -> bool:
        for one in self._statements:
            wanted = one.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
            fits = wanted is None or any(fnmatchcase(prefix, each) for each in wanted if prefix is not None)
            named = fnmatchcase(f"arn:aws:s3:::{resource}", one["Resource"])
            if f"s3:{action}" in one["Action"] and named and fits:
                return True
        return False


class RefusingS3:
    """Forwards requests to an S3 server, except refused ones.

    `refused` holds (method, part of the path) pairs.

    Args:
        url: the server's.
        policy: refuse also what this IAM policy does not allow.
    """

    def __init__(self, url: str, policy: Policy | None = None) -> None:
        self.refused: set[tuple[str, str]] = set()
        self.policy = policy
        self.refusals = 0
        #: Method and path of each request held since the last `freeze`.
        self.held: list[str] = []
        self._open = threading.Event()
        self._open.set()
        handler = type("Handler", (_Handler,), {"front": self, "behind": url.removeprefix("http://")})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def freeze(self) -> None:
        """Answer no request until `thaw`."""
        self.held.clear()
        self._open.clear()

    def thaw(self) -> None:
        """Answer again, those that wait as well."""
        self._open.set()

    def hold(self, method: str, path: str) -> None:
        """Wait while it is frozen."""
        if not self._open.is_set():
            self.held.append(f"{method} {path}")
            self._open.wait(120)

    def refuses(self, method: str, path: str) -> bool:
        """Tell whether a request is refused, and count it if so."""
        found = any(method == one and part in path for one, part in self.refused)
        found = found or (self.policy is not None and not self.policy.allows(method, path))
        self.refusals += found
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: RefusingS3
    behind: str

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.front.hold(self.command, self.path)
        if self.front.refuses(self.command, self.path):
            self._answer(403, [("Content-Type", "application/xml")], _DENIED)
            return
        line = http.client.HTTPConnection(self.behind, timeout=30)
        line.request(self.command, self.path, body, dict(self.headers))
        answer = line.getresponse()
        policy = self.front.policy
        if answer.status == 404 and policy and not policy.may_list(self.path):
            self.front.refusals += 1
            self._answer(403, [("Content-Type", "application/xml")], _DENIED)
            line.close()
            return
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
        """Log nothing."""

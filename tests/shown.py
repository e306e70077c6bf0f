"""The page over recorded sweeps, served on loopback, and a minimal browser."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from staged import Stage


@dataclass(frozen=True)
class Reply:
    """The page's response."""

    status: int
    text: str
    headers: Mapping[str, str]


class Browser:
    """Sends requests as a browser does, with its cookie.

    Args:
        port: the server's port.
    """

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""

    def get(self, path: str, **headers: str) -> Reply:
        """Request a page; underscores in the names of headers stand for dashes."""
        return self.send("GET", path, None, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Reply:
        """Send a form."""
        return self.send(
            "POST", path, urlencode(form), {"Content-Type": "application/x-www-form-urlencoded", **headers}
        )

    def token(self, path: str) -> str:
        """Return the token of the form on a page."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.get(path).text)
        assert found
        return found[1]

    def send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Reply:
        """Send any request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            given["Cookie"] = self.cookie
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        found = Reply(answer.status, answer.read().decode("utf-8", "replace"), dict(answer.getheaders()))
        connection.close()
        if "set-cookie" in found.headers:
            self.cookie = found.headers["set-cookie"].partition(";")[0]
        return found


@dataclass(frozen=True)
class Show:
    """A page that is served, and its sweeps: `sweep` is running, `wide` has ended."""

    stage: Stage
    port: int
    sweep: str
    wide: str

    @property
    def browser(self) -> Browser:
        """A browser without a session."""
        return Browser(self.port)

"""Viewers of the page who follow a sweep, as browsers do, and look around in it."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_HEADERS = {"Accept-Encoding": "gzip", "Accept": "text/html"}
#: Without a change a viewer looks at something else after this long, in seconds.
_PATIENCE_S = 1.5


def ask(port: int, path: str, connection: http.client.HTTPConnection | None = None) -> float:
    """Ask for a page, by an open connection if there is one; return how long its answer took in ms."""
    kept, connection = connection, connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begun = time.perf_counter()
    connection.request("GET", path, headers=_HEADERS)
    answer = connection.getresponse()
    answer.read()
    if kept is None:
        connection.close()
    if answer.status != 200:
        raise OSError(f"{path} gave {answer.status}")
    return 1000 * (time.perf_counter() - begun)


def views_of(sweep: str) -> Sequence[str]:
    """Return paths at which a sweep is looked at."""
    base = f"/sweeps/{sweep}"
    queries = ["", "sort=value", "state=stopped&page=3", "within=value:0.2:0.6", "q=units=100", "best=24"]
    return [*(f"{base}?{one}" for one in queries), f"{base}/trials/17", "/sweeps", "/workers"]


@dataclass
class Audience:
    """Viewers, each of whom holds a stream of events and asks again at each change.

    Args:
        port: the page's port.
        sweep: the sweep that they look at.
    """

    port: int
    sweep: str
    times_ms: list[float] = field(default_factory=list)
    changes: int = 0
    problems: list[str] = field(default_factory=list)

    def watch(self, viewers: int, seconds: float) -> None:
        """Let so many viewers look for a while."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._view, args=(n, end)) for n in range(viewers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _view(self, viewer: int, end: float) -> None:
        try:
            self._follow(random.Random(viewer), end)
        except OSError as exc:
            self.problems.append(str(exc))

    def _follow(self, chance: random.Random, end: float) -> None:
        stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        stream.request("GET", f"/events?of={self.sweep}&of=processes")
        events, path = stream.getresponse(), chance.choice(views_of(self.sweep))
        asks = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < end:
            if _changed(events):
                self.changes += 1
            else:
                stream.close()
                stream.request("GET", f"/events?of={self.sweep}&of=processes")
                events, path = stream.getresponse(), chance.choice(views_of(self.sweep))
            if chance.random() < 0.1:
                path = chance.choice(views_of(self.sweep))
            self.times_ms.append(ask(self.port, path, asks))
            if path.startswith(f"/sweeps/{self.sweep}?"):
                self.times_ms.append(ask(self.port, path.replace("?", "/curves.json?"), asks))
        stream.close()
        asks.close()


def _changed(events: http.client.HTTPResponse) -> bool:
    """Wait for the next event; return False where none comes in time."""
    try:
        while line := events.readline():
            if line.startswith(b"event: changed"):
                return True
    except TimeoutError:
        pass
    return False

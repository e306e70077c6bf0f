"""Viewers of the page who follow a sweep, as browsers do, and look around in it."""

from __future__ import annotations

import gzip
import html
import http.client
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_HEADERS = {"Accept-Encoding": "gzip", "Accept": "text/html"}


def ask(port: int, path: str, connection: http.client.HTTPConnection | None = None) -> tuple[float, str]:
    """Ask for a page, by an open connection if there is one; return its time in ms, and it."""
    kept, connection = connection, connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    begun = time.perf_counter()
    connection.request("GET", path, headers=_HEADERS)
    answer = connection.getresponse()
    page = answer.read()
    if kept is None:
        connection.close()
    if answer.status != 200:
        raise OSError(f"{path} gave {answer.status}")
    took_ms = 1000 * (time.perf_counter() - begun)
    packed = answer.getheader("Content-Encoding") == "gzip"
    return took_ms, (gzip.decompress(page) if packed else page).decode()


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
        patience_s: without an event a viewer looks at something else after this long, in seconds; an event
            comes up to 1.5 s after the change, later on a slow machine.
    """

    port: int
    sweep: str
    patience_s: float = 1.5
    times_ms: list[float] = field(default_factory=list)
    changes: int = 0
    problems: list[str] = field(default_factory=list)
    #: The viewers who have a page before them, and those who were told of a change since.
    arrived: set[int] = field(default_factory=set)
    told: set[int] = field(default_factory=set)
    #: Ends the show.
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self, viewers: int, seconds: float) -> None:
        """Let so many viewers look for a while, or until it is over."""
        threads = [threading.Thread(target=self._view, args=(n,)) for n in range(viewers)]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()

    def _view(self, viewer: int) -> None:
        try:
            self._follow(viewer, random.Random(viewer))
        except OSError as exc:
            self.problems.append(str(exc))

    def _follow(self, viewer: int, chance: random.Random) -> None:
        asks = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while not self.over.is_set():
            path = chance.choice(views_of(self.sweep))
            stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience_s)
            stream.request("GET", events_of(self._ask(path, asks)))
            self.arrived.add(viewer)
            events = stream.getresponse()
            while _changed(events) and not self.over.is_set():
                self.changes += 1
                self.told.add(viewer)
                self._ask(path, asks)
                if path.startswith(f"/sweeps/{self.sweep}?"):
                    self._ask(path.replace("?", "/curves.json?"), asks)
                if chance.random() < 0.1:
                    break
            stream.close()
        asks.close()

    def _ask(self, path: str, connection: http.client.HTTPConnection) -> str:
        took_ms, answer = ask(self.port, path, connection)
        self.times_ms.append(took_ms)
        return answer


def events_of(page: str) -> str:
    """Return the address of the events that a page follows."""
    found = re.search('sse-connect="([^"]+)"', page)
    assert found, page[:500]
    return html.unescape(found[1])


def _changed(events: http.client.HTTPResponse) -> bool:
    """Wait for the next event; return False where none comes in time."""
    try:
        while line := events.readline():
            if line.startswith(b"event: changed"):
                return True
    except TimeoutError:
        pass
    return False

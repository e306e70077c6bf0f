"""Serves the page, until told to stop, or in a thread beside something else."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kerasweep.jobs.errors import InputError
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web.gate import Access, is_loopback
from kerasweep.scheduler.web.site import Site

#: How long a request may take to arrive, in seconds.
_PATIENCE_S = 10.0
_MOST_REQUESTS, _KEEP_ALIVE_S, _GRACE_S, _START_S = 400, 15, 2, 10.0


def expect_safe(access: Access) -> None:
    """Check that strangers cannot read the page.

    Raises:
        InputError: others can reach the address, and there is no password.
    """
    if not access.password and not is_loopback(access.address):
        raise InputError(
            f"the page needs a password if others can reach it, got --address {access.address} without one\n"
            "Set KERASWEEP_DASHBOARD_PASSWORD, or name a file with --password-file, or listen on 127.0.0.1"
        )


def expect_pair(certificate: Path, key: Path) -> None:
    """Check that a certificate and its key are PEM files that belong together, without a passphrase.

    Raises:
        InputError: they cannot.
    """
    try:
        # The passphrase is asked for at the terminal unless one is given.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise InputError(
            "TLS needs a certificate and its key as PEM files without a passphrase, "
            f"got {certificate} and {key} ({exc})\n"
            "Name the two that belong together; `openssl rsa` removes a passphrase"
        ) from exc


def url_of(access: Access) -> str:
    """Return the page's URL for a browser."""
    host = f"[{access.address}]" if ":" in access.address else access.address
    return f"http{'s' if access.tls else ''}://{host}:{access.port}"


def serve(
    client: Client,
    access: Access,
    told: Callable[[], None],
    certificate: Path | None = None,
    key: Path | None = None,
) -> None:
    """Serve the page until a signal asks to stop.

    Args:
        client: connections to the store.
        access: where it listens, and who may see it.
        told: called once it listens.
        certificate: its certificate, for TLS.
        key: the certificate's key.
    """
    server = _server(client, access, certificate, key, alone=True)
    server.told = told
    # uvicorn raises the signal once more when it has shut down; a requested stop is not a failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run()


@contextmanager
def beside(client: Client, access: Access) -> Iterator[str]:
    """Serve the page in a thread while the context lasts; yield its address."""
    server = _server(client, access)
    thread = threading.Thread(target=server.run, name="dashboard", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield url_of(access)
    finally:
        server.should_exit = True
        thread.join(_GRACE_S + 3.0)


def free_port(port: int) -> int:
    """Return the port if it is free on this machine, else another free one."""
    for wanted in (port, 0):
        try:
            with socket.create_server(("127.0.0.1", wanted)) as held:
                return int(held.getsockname()[1])
        except OSError:
            continue
    raise InputError("no port is free on 127.0.0.1")


class _Server(uvicorn.Server):
    """Closes the streams first, so that they do not delay the shutdown; ignores signals outside the main
    thread.
    """

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site
        self.told: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin."""
        await super().startup(sockets)
        if self.started:
            self.told()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._site.pulse.stop()
        await super().shutdown(sockets)


class _Hurried(H11Protocol):
    """Drops a connection whose request does not arrive: many of those would keep everybody else out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self._seen: object = None
        self._looks = self.loop.call_later(_PATIENCE_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._looks.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        cycle: Any = self.cycle  # None before the first request
        waits = cycle is None or cycle.more_body or cycle.response_complete
        if waits and cycle is self._seen:
            self.transport.close()
            return
        self._seen = cycle if waits else self
        self._looks = self.loop.call_later(_PATIENCE_S, self._look)


def _server(
    client: Client,
    access: Access,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    alone: bool = False,
) -> _Server:
    site = Site(client, access, alone=alone)
    config = uvicorn.Config(
        site.application(),
        host=access.address,
        port=access.port,
        log_config=None,  # its own would close every handler of the process first
        log_level="warning",
        access_log=False,
        http=_Hurried,
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_REQUESTS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return _Server(config, site)

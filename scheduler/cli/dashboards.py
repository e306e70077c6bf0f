"""The command that shows the page: dashboard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.settings import Settings
from kerasweep.scheduler.cli.commands import RUN, command
from kerasweep.scheduler.cli.output import say
from kerasweep.scheduler.cli.processes import expect_free
from kerasweep.scheduler.client.client import Client

PORT = 8265
_PASSWORD = "KERASWEEP_DASHBOARD_PASSWORD"  # noqa: S105 - where it is, not what it is
_NEEDED = ("starlette", "uvicorn", "jinja2", "prometheus_client")


@command(
    RUN,
    "kerasweep dashboard",
    "kerasweep dashboard --read-only --port 9000",
    "kerasweep dashboard --address 0.0.0.0 --password-file secret.txt --tls-cert cert.pem --tls-key key.pem",
)
def dashboard(
    client: Client,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = PORT,
    address: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"A file with the password; or set {_PASSWORD}.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host name that browsers may use.", show_default=False),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Allow no changes.")] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate, for TLS.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate's key.", show_default=False)
    ] = None,
) -> None:
    """Show sweeps in a browser, and steer them.

    It listens on this machine alone unless --address says otherwise, and then it needs a password.
    """
    expect_installed()
    from kerasweep.scheduler.web import listening
    from kerasweep.scheduler.web.gate import Access

    if (tls_cert is None) != (tls_key is None):
        raise InputError("TLS needs both --tls-cert and --tls-key, got one of them; name both")
    access = Access(
        address=address,
        port=port,
        password=_password(password_file),
        hosts=tuple(allow_host or ()),
        read_only=read_only,
        tls=tls_cert is not None,
    )
    listening.expect_safe(access)
    if tls_cert and tls_key:
        listening.expect_pair(tls_cert, tls_key)
    expect_free(address, port)
    if access.password and not access.tls:
        say("note: without --tls-cert the password travels in the clear; put a TLS proxy in front of it")
    listening.serve(
        client, access, lambda: say(f"the page is at {listening.url_of(access)}"), tls_cert, tls_key
    )


@contextmanager
def shown_beside(settings: Settings) -> Iterator[str]:
    """Serve the page on this machine while the context lasts; yield its address."""
    from kerasweep.scheduler.web import listening
    from kerasweep.scheduler.web.gate import Access

    with Client(settings) as client:
        access = Access(port=listening.free_port(PORT), password=_password(None))
        with listening.beside(client, access) as address:
            yield address


def expect_installed() -> None:
    """Check that the page's packages are installed.

    Raises:
        InputError: one is missing.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(f"the page needs {', '.join(missing)}; pip install 'kerasweep[dashboard]'")


def _password(file: Path | None) -> str:
    if file is None:
        return os.environ.get(_PASSWORD, "")
    given = _read(file).strip()
    if not given:
        raise InputError(f"a password must not be empty, got an empty file {file}; write one into it")
    return given


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{file} cannot be read: {exc}") from exc

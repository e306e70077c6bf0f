"""Tab completion: its scripts for each shell, and sweep names and gallery entries, which must never fail."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer

from kerasweep.jobs.errors import InputError, KerasweepError

#: typer's own options take no value: they detect the shell.
SHOW, INSTALL = FLAGS = ("--show-completion", "--install-completion")
_SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def provide(flag: str, shell: str) -> None:
    """Print or install the completion of a shell.

    Args:
        flag: one of `FLAGS`.
        shell: its name.

    Raises:
        InputError: the shell is not supported.
    """
    if shell not in _SHELLS:
        raise InputError(f"the shell must be one of {', '.join(_SHELLS)}, got {shell!r}")
    scripts = import_module("typer.completion")  # typer names no public place for them
    if flag == SHOW:
        typer.echo(
            scripts.get_completion_script(
                prog_name="kerasweep", complete_var="_KERASWEEP_COMPLETE", shell=shell
            )
        )
        return
    _, path = scripts.install(shell=shell, prog_name="kerasweep", complete_var="_KERASWEEP_COMPLETE")
    typer.echo(f"{shell} completion is installed in {path}; it works in new terminals")


def sweeps(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the sweep names that match, or ids if no name does."""
    from kerasweep.scheduler.client.client import Client

    given: dict[str, Any] = ctx.params
    try:
        with Client(store_url=given.get("store"), home=given.get("home"), reach_s=1.0) as client:
            found = [one.record for one in client.sweeps()]
    except KerasweepError:
        return []
    named = {one.name: f"{one.id}, {one.state}" for one in reversed(found) if one.name.startswith(incomplete)}
    return list(named.items()) or [(one.id, one.name) for one in found if one.id.startswith(incomplete)]


def gallery(incomplete: str) -> list[tuple[str, str]]:
    """Return the matching gallery entries."""
    from kerasweep.jobs.gallery_index import list_gallery

    return [(one.name, one.description) for one in list_gallery() if one.name.startswith(incomplete)]

"""The entry point: `kerasweep …`. Nothing heavy is imported here, so that help and completion are quick."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from kerasweep.scheduler.cli import (
    checking,
    following,
    looking,
    plotting,
    processes,
    results,
    steering,
    submitting,
)
from kerasweep.scheduler.cli.commands import app

__all__ = [
    "app",
    "main",
    "checking",
    "following",
    "looking",
    "plotting",
    "processes",
    "results",
    "steering",
    "submitting",
]


#: In which order help lists the commands: the way that a person takes.
_ORDER = (
    *("run", "submit", "worker", "scheduler", "flower"),
    *("ls", "status", "trials", "watch", "logs", "journal", "tensorboard"),
    *("best", "fetch", "show", "plot", "evaluate", "predict"),
    *("pause", "resume", "cancel", "retry", "extend"),
    *("init", "doctor", "schema"),
)
app.registered_commands.sort(key=lambda info: _ORDER.index(str(info.name)))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed  # slow, and needed for this alone

        typer.echo(f"kerasweep {installed('kerasweep')}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Sweeps of Keras training: many trials, one command, nothing lost.

    A sweep is an ordinary Keras program and a YAML file that says which values to try.
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Run the command line."""
    app(prog_name="kerasweep")

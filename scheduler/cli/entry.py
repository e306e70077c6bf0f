"""The entry point, `kerasweep …`. It imports nothing heavy, so that help and completion are quick."""

from __future__ import annotations

import gc
import logging
import sys
from typing import Annotated, TextIO

import typer

from kerasweep.jobs.printable import PrintableFormatter
from kerasweep.scheduler.cli import (
    checking,
    dashboards,
    exits,
    following,
    keeping,
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
    "dashboards",
    "following",
    "keeping",
    "looking",
    "plotting",
    "processes",
    "results",
    "steering",
    "submitting",
]


#: The order of the commands in help: the order in which users need them.
_ORDER = (
    *("run", "submit", "worker", "scheduler", "dashboard", "flower"),
    *("ls", "status", "trials", "watch", "logs", "journal", "replay", "workers", "tensorboard"),
    *("best", "certify", "fetch", "show", "plot", "compare", "evaluate", "predict"),
    *("pause", "resume", "cancel", "retry", "extend", "add", "rm", "gc"),
    *("init", "doctor", "health", "schema"),
)
#: Objects between two garbage collections: at Python's 700 they take a third of an import's time.
_SELDOM = 50_000

app.registered_commands.sort(key=lambda info: _ORDER.index(str(info.name)))


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current stderr: a live table replaces it to print messages above itself."""

    @property
    def stream(self) -> TextIO:
        """The current stderr."""
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Required by logging's own constructor."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed  # slow to import, and needed only here

        typer.echo(f"kerasweep {installed('kerasweep')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Sweeps of Keras training: many trials, one command, nothing lost.

    A sweep is an ordinary Keras program and a YAML file that says which values to try.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(exits.WRONG_INPUT)
    handler = StderrHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


def main() -> None:
    """Run the command line."""
    gc.set_threshold(_SELDOM)
    app(prog_name="kerasweep")

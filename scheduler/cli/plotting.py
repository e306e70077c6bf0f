"""Commands that draw: plot, and compare."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kerasweep.jobs.errors import InputError
from kerasweep.scheduler.cli.commands import RESULTS, Output, SweepName, command
from kerasweep.scheduler.cli.output import OutputFormat, emit, say
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.show import repeated, tables


class PlotView(StrEnum):
    """The views of a sweep that can be drawn."""

    HISTORY = "history"
    PARALLEL = "parallel"
    SLICE = "slice"
    IMPORTANCES = "importances"


@command(
    RESULTS,
    "kerasweep plot mlp sweep.html",
    "kerasweep plot mlp importances.svg --view importances",
    "kerasweep plot mlp 3 curves.png",
)
def plot(
    client: Client,
    sweep: SweepName,
    which: Annotated[
        str,
        typer.Argument(
            metavar="FILE|TRIAL",
            help="The file; or a trial's number, followed by the file.",
            show_default=False,
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A .png, .svg or .html file.", show_default=False)
    ] = None,
    view: Annotated[
        list[PlotView] | None,
        typer.Option(help="Which views of a sweep to draw; all by default.", show_default=False),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Draw a sweep, or one trial, into a file.

    For a sweep: history, parallel coordinates, slices and importances. For a trial: its curves.
    """
    from kerasweep.scheduler.show.plots import plot_sweep, plot_trial

    trial, target = (None, Path(which)) if file is None else (_number(which), file)
    found = client.sweep(sweep)
    if trial is None:
        rungs = client.records.rung_values(found.id)
        plot_sweep(found.record, found.trial_records(), rungs, view or list(PlotView), target)
    else:
        record = found.trial(trial)
        epochs = client.records.epochs(found.id, trial).get(trial, [])
        title = f"{found.name}, trial {trial}: {wording.params(record.params)}"
        plot_trial(title, epochs, record.best_epoch, target)
    document = {"sweep": found.id, "name": found.name, "trial": trial, "file": str(target)}
    emit(document, output, lambda: tables.literal(f"wrote {target}"))


@command(
    RESULTS,
    "kerasweep compare mlp mlp-halving",
    "kerasweep compare mlp mlp-halving --plot both.png",
    "kerasweep compare mlp mlp-halving -o json | jq .differences",
)
def compare(
    client: Client,
    sweep: SweepName,
    other: SweepName,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the best value over time and over epochs: .png, .svg or .html.",
            show_default=False,
        ),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Compare two sweeps.

    What they found, after how much time and how many epochs, and what differs in their files.
    """
    shown = client.sweep(sweep).compare(client.sweep(other))
    if plot is not None:
        from kerasweep.scheduler.show.plots import plot_comparison

        plot_comparison(shown, plot)
    document = shown.to_json()
    if output is OutputFormat.CSV:
        sides = [{key: one[key] for key in one if key != "curve"} for one in document["sweeps"]]
        emit(sides, output, lambda: repeated.comparison(shown))
    else:
        emit(document, output, lambda: repeated.comparison(shown))
    if plot is not None:
        say(f"wrote {plot}")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"a trial is a number, got {text!r}; see `kerasweep plot --help`")
    return int(text)

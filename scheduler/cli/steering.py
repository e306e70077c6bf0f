"""Commands that steer a sweep or a trial: pause, resume, cancel, retry, extend, add."""

from __future__ import annotations

from typing import Annotated

import typer

from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.cli.commands import STEER, Output, SweepName, TrialNumber, command
from kerasweep.scheduler.cli.output import OutputFormat, emit, say
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show import tables


@command(STEER, "kerasweep pause mlp", "kerasweep pause mlp 3")
def pause(
    client: Client, sweep: SweepName, trial: TrialNumber = None, output: Output = OutputFormat.TABLE
) -> None:
    """Pause a sweep or a trial, so that it can be resumed."""
    found = client.sweep(sweep)
    _print_done(found, trial, found.pause(trial), output)


@command(STEER, "kerasweep resume mlp", "kerasweep resume mlp 3")
def resume(
    client: Client, sweep: SweepName, trial: TrialNumber = None, output: Output = OutputFormat.TABLE
) -> None:
    """Resume a paused sweep or trial where it stopped."""
    found = client.sweep(sweep)
    _print_done(found, trial, found.resume(trial), output)


@command(STEER, "kerasweep cancel mlp", "kerasweep cancel mlp 3")
def cancel(
    client: Client, sweep: SweepName, trial: TrialNumber = None, output: Output = OutputFormat.TABLE
) -> None:
    """Cancel a sweep or a trial; results so far are kept."""
    found = client.sweep(sweep)
    _print_done(found, trial, found.cancel(trial), output)


@command(STEER, "kerasweep retry mlp", "kerasweep retry mlp 3", "kerasweep retry mlp --code")
def retry(
    client: Client,
    sweep: SweepName,
    trial: TrialNumber = None,
    code: Annotated[
        bool, typer.Option("--code", help="Train with the job as it is now, not as submitted.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Queue failed and cancelled trials again, or one of them.

    They train with the code as submitted, unless --code takes the job as it is now.
    """
    found = client.sweep(sweep)
    done = found.retry(trial, code=code)
    _print_done(found, trial, done, output)
    changed = None if code else found.changed_job()
    if changed:
        say(
            f"note: {changed} has changed since it was submitted, and a sweep keeps its code; "
            f"`kerasweep retry {found.handle} --code` takes it as it is now"
        )


@command(STEER, "kerasweep extend mlp --max-trials 40")
def extend(
    client: Client,
    sweep: SweepName,
    max_trials: Annotated[int, typer.Option(min=1, help="The new maximum number of trials in total.")],
    output: Output = OutputFormat.TABLE,
) -> None:
    """Give a sweep more trials; finished ones are kept."""
    found = client.sweep(sweep)
    _print_done(found, None, found.extend(max_trials), output)


@command(STEER, "kerasweep add mlp learning_rate=0.01 units=100")
def add(
    client: Client,
    sweep: SweepName,
    values: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE...", help="A value for every parameter.", show_default=False),
    ],
    output: Output = OutputFormat.TABLE,
) -> None:
    """Add a point to a running sweep, in addition to those that its method chooses."""
    from kerasweep.scheduler.client.asking import read_pair  # loads YAML, which --help does not need

    found = client.sweep(sweep)
    done = found.add(dict(map(read_pair, values)))
    emit({"sweep": found.id, "name": found.name, "done": done}, output, lambda: tables.literal(done))


def _print_done(sweep: Sweep, trial: int | None, done: str, output: OutputFormat) -> None:
    document = {
        "sweep": sweep.id,
        "name": sweep.name,
        "trial": trial,
        "state": str(sweep.record.state if trial is None else sweep.trial(trial).state),
        "done": done,
    }
    emit(document, output, lambda: tables.literal(done))
    waiting = sweep.status().waiting
    if waiting and sweep.record.state is SweepState.RUNNING:
        say(f"waiting: {waiting}")

"""Read-only commands: ls, status, trials, workers, journal, logs."""

from __future__ import annotations

import contextlib
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.cli.commands import LOOK, Output, SweepName, TrialNumber, command
from kerasweep.scheduler.cli.output import OutputFormat, emit, line, say, show
from kerasweep.scheduler.client import report
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show import repeated, tables

if TYPE_CHECKING:
    from kerasweep.jobs.store.tail import LogTail

_FOLLOW_S = 0.5


class SortOrder(StrEnum):
    """The order in which trials are listed."""

    TRIAL = "trial"
    VALUE = "value"


def _named(states: type[StrEnum]) -> str:
    return ", ".join(states)


Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Keep printing new lines until the sweep has ended.")
]


@command(LOOK, "kerasweep ls", "kerasweep ls --state running -o json")
def ls(
    client: Client,
    state: Annotated[
        list[SweepState] | None,
        typer.Option(
            metavar="STATE", help=f"Only sweeps in this state: {_named(SweepState)}; may be repeated."
        ),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List the sweeps, the newest first."""
    documents = [report.status_document(sweep.status()) for sweep in client.sweeps(state)]
    if not documents and output is OutputFormat.TABLE:
        say(
            "no sweeps yet; `kerasweep init mlp` creates a first one"
            if not state
            else "no sweep is in that state"
        )
        return
    emit(documents, output, lambda: tables.sweeps(documents, time.time()))


@command(LOOK, "kerasweep status mlp", "kerasweep status 3f9a -o json")
def status(client: Client, sweep: SweepName, output: Output = OutputFormat.TABLE) -> None:
    """Show the state of a sweep.

    It includes the best result so far, and what the sweep is waiting for.
    """
    document = report.status_document(client.sweep(sweep).status())
    emit(document, output, lambda: tables.status(document))


@command(
    LOOK,
    "kerasweep trials mlp",
    "kerasweep trials mlp --sort value --limit 5",
    "kerasweep trials mlp --state failed -o csv > failed.csv",
    "kerasweep trials mlp --variants --sort value",
)
def trials(
    client: Client,
    sweep: SweepName,
    state: Annotated[
        list[TrialState] | None,
        typer.Option(
            metavar="STATE", help=f"Only trials in this state: {_named(TrialState)}; may be repeated."
        ),
    ] = None,
    sort: Annotated[SortOrder, typer.Option(help="The order: by number, or best first.")] = SortOrder.TRIAL,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The maximum number of trials.", show_default=False)
    ] = None,
    variants: Annotated[
        bool, typer.Option("--variants", help="One line for the trials that differ in their seed alone.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List trials, with parameters and results.

    In a sweep with `repeats`, --variants lists means and standard deviations instead.
    """
    found = client.sweep(sweep)
    if variants:
        _list_variants(found, state, sort, limit, output)
        return
    phases = found.phases()
    documents = [
        report.trial_document(one)
        | {"phase": phases.get(one.number) if one.state is TrialState.RUNNING else None}
        for one in found.trial_list(state)
    ]
    documents = _sorted(found, documents, sort)[:limit]
    spec = found.spec

    def shown() -> list[dict[str, Any]]:
        waits = report.waits_of(client.records, found.record)
        return [tables.without_waits(one, waits) for one in documents]

    emit(documents, output, lambda: tables.trials(shown(), spec.metric.name, spec.space().dimensions))


@command(LOOK, "kerasweep workers", "kerasweep workers --release w0")
def workers(
    client: Client,
    release: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Give trials again to a worker that was set aside.", show_default=False
        ),
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """List the live workers, and those that are set aside.

    A worker on which every trial fails, while others can train them, is given no more trials.
    """
    if release is not None:
        client.release_worker(release)
        say(f"worker {release} takes trials again")
    documents = report.worker_documents(client.workers(), client.quarantines())
    if not documents and output is OutputFormat.TABLE:
        say(report.NO_WORKER)
        return
    emit(documents, output, lambda: tables.workers(documents))


@command(LOOK, "kerasweep journal mlp", "kerasweep journal mlp 3 -o json")
def journal(
    client: Client, sweep: SweepName, trial: TrialNumber = None, output: Output = OutputFormat.TABLE
) -> None:
    """Show every decision, with its reason."""
    found = client.sweep(sweep)
    if trial is not None:
        found.trial(trial)
    entries = [one for one in client.records.journal(found.id) if trial is None or one.trial == trial]
    documents = report.journal_documents(entries)
    emit(documents, output, lambda: tables.journal(documents))


@command(LOOK, "kerasweep logs mlp", "kerasweep logs mlp 3 -f")
def logs(
    client: Client,
    sweep: SweepName,
    trial: TrialNumber = None,
    follow: Follow = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Print the output of the job, for all trials or for one.

    With --follow, `-o json` prints one line of JSON for each line of the log.
    """
    found = client.sweep(sweep)
    if trial is not None:
        found.trial(trial)
    tail = client.records.log_tail(found.id, trial)
    documents = report.log_documents(tail.read())
    if not follow and output is not OutputFormat.TABLE:
        emit(documents, output, lambda: tables.listing(documents))
        return
    _print_logs(documents, output, trial)
    if not documents and not follow:
        which = f"{found.handle} {trial}" if trial is not None else found.handle
        say(f"nothing was printed; `kerasweep journal {which}` shows what was decided, and why")
    if follow:
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the way to leave
            _follow_logs(found, tail, trial, output)


def _list_variants(
    sweep: Sweep,
    states: list[TrialState] | None,
    sort: SortOrder,
    limit: int | None,
    output: OutputFormat,
) -> None:
    shown = [one for one in sweep.variants() if not states or one.state in states]
    documents = _sorted(sweep, [report.variant_document(one) for one in shown], sort)[:limit]
    emit(documents, output, lambda: repeated.variants(documents, sweep.spec.metric.name))


def _sorted(sweep: Sweep, documents: list[report.Document], sort: SortOrder) -> list[report.Document]:
    """Return trials or variants, which are in order of their number, in the order asked for."""
    if sort is SortOrder.TRIAL:
        return documents
    sign = 1.0 if sweep.spec.metric.goal == "minimize" else -1.0
    return sorted(documents, key=lambda one: (one["value"] is None, sign * float(one["value"] or 0.0)))


def _follow_logs(sweep: Sweep, tail: LogTail, trial: int | None, output: OutputFormat) -> None:
    """Print new lines until the sweep has ended."""
    ended = False
    while not ended:
        ended = sweep.state.final  # read first, so that its last lines are printed too
        _print_logs(report.log_documents(tail.read()), output, trial)
        if not ended:
            time.sleep(_FOLLOW_S)


def _print_logs(documents: list[report.Document], output: OutputFormat, trial: int | None) -> None:
    for one in documents:
        if output is not OutputFormat.TABLE:
            line(one)
            continue
        mark = "" if trial is not None else f"{one['trial']:>4} │ "
        show("\n".join(mark + text for text in one["text"].splitlines() or [""]))

"""Commands that show a sweep as it runs: run, watch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from kerasweep.jobs.errors import Halted, InputError, KerasweepError
from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.cli import completion
from kerasweep.scheduler.cli.commands import LOOK, RUN, Output, SweepName, command
from kerasweep.scheduler.cli.dashboards import expect_installed, shown_beside
from kerasweep.scheduler.cli.flags import WorkerFlags
from kerasweep.scheduler.cli.output import DocumentStream, OutputFormat, console, emit, line, say, show
from kerasweep.scheduler.cli.submitting import EngineName, NewName, WarmFrom, file_in, say_warm_start
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.attendance import Attendance
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.local.children import expect_keras
from kerasweep.scheduler.show import live, tables

_NAMED = 5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@command(LOOK, "kerasweep watch mlp", "kerasweep watch mlp -o json | jq .value")
def watch(client: Client, sweep: SweepName, output: Output = OutputFormat.TABLE) -> None:
    """Show a sweep as it runs.

    Leaving the view does not affect the sweep.

    With `-o json`, print one line of JSON for each finished trial, and the status at the end;
    with `-o csv` a line of CSV, with `-o yaml` a document.
    """
    found = client.sweep(sweep)
    try:
        state = live.follow(view_of(found, output), lambda: False)
    except KeyboardInterrupt:
        say(f"sweep {found.name} continues; `kerasweep watch {found.handle}` shows it again")
        return
    if output is OutputFormat.JSON:
        line(report.status_document(found.status()))
    if state is SweepState.FAILED:
        raise failure_of(found)


@command(
    RUN,
    "kerasweep run sweep.yaml",
    "kerasweep run sweep.yaml --gpus 0,1",
    "kerasweep run sweep.yaml --dashboard",
    "kerasweep run --resume mlp",
    "kerasweep run sweep.yaml -o json > winner.json",
    "kerasweep run wider.yaml --warm-from mlp",
)
def run(
    client: Client,
    worker: WorkerFlags,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="The sweep file (YAML), or the folder of a sweep.yaml.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="SWEEP",
            help="Resume an interrupted sweep.",
            autocompletion=completion.sweeps,
            show_default=False,
        ),
    ] = None,
    name: NewName = None,
    engine: Annotated[
        EngineName, typer.Option(help="How to train; see `kerasweep submit --help`.")
    ] = EngineName.AUTO,
    warm_from: WarmFrom = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Also show it in a browser while it runs.")
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Run a whole sweep on this machine.

    It starts everything needed, shows the trials, ends with the winner, and leaves nothing running.

    Ctrl-C stops it cleanly: finished work is kept, and `--resume` continues from there.
    A second Ctrl-C stops it at once.
    """
    if dashboard:
        expect_installed()
    sweep = _begin(client, file, resume, name, engine, warm_from)
    if not sweep.state.final:
        words, again = (*worker.words, f"--engine={engine}"), f"run --resume {sweep.handle}"
        train_here(client, sweep, words, output, again=again, dashboard=dashboard)
    _conclude(sweep.refresh(), output)


def _begin(
    client: Client,
    file: Path | None,
    resume: str | None,
    name: str | None,
    engine: EngineName,
    warm_from: str | None,
) -> Sweep:
    """Submit the sweep, or find the one to resume, which may be paused."""
    if (file is None) == (resume is None):
        raise InputError(
            "a run needs a sweep file, or --resume SWEEP, and not both; see `kerasweep run --help`"
        )
    expect_keras()
    if file is not None:
        sweep = client.submit(file_in(file), name=name, engine=engine, warm_from=warm_from)
        say_warm_start(sweep)
        return sweep
    if warm_from is not None:
        raise InputError("--warm-from is for a new sweep, got it with --resume; leave it out")
    return client.sweep(str(resume))


def train_here(
    client: Client,
    sweep: Sweep,
    worker_flags: tuple[str, ...],
    output: OutputFormat,
    *,
    again: str,
    dashboard: bool = False,
) -> None:
    """Run everything that a sweep, which may be paused, needs until it has ended, or a signal asks to stop.

    Args:
        client: connections to the store.
        sweep: the sweep; it has not ended.
        worker_flags: the worker's.
        output: the format of the command; its documents are left to the caller.
        again: the command that resumes it, without `kerasweep`.
        dashboard: whether to show it in a browser too.

    Raises:
        KerasweepError: a signal stopped it early.
        Halted: the worker or the scheduler keeps dying.
    """
    with Attendance(client) as attendance:
        if sweep.record.state is SweepState.PAUSED:
            sweep.resume()
        _train(client, sweep, worker_flags, output, attendance, again, dashboard=dashboard)


def _train(
    client: Client,
    sweep: Sweep,
    worker_flags: tuple[str, ...],
    output: OutputFormat,
    attendance: Attendance,
    again: str,
    *,
    dashboard: bool,
) -> None:
    """Run everything that the sweep needs until it has ended, or a signal asks to stop.

    Raises:
        KerasweepError: a signal stopped it early.
        Halted: the worker or the scheduler keeps dying.
    """
    from kerasweep.scheduler.local.embedded import Local

    _tell_of_others(client, sweep)
    local = Local(client.settings, worker_flags)
    with _interrupts(local.kill) as interrupts:
        with ExitStack() as stack:
            stack.enter_context(local)
            here = stack.enter_context(Client(local.settings))
            here.hint(sweep.id)
            if dashboard:
                address = stack.enter_context(shown_beside(local.settings))
                say(f"the page is at {address}/sweeps/{sweep.id}")

            def tick() -> bool:
                local.check()
                attendance.tell()
                return bool(interrupts)

            live.follow(view_of(here.sweep(sweep.id), output, kept=True), tick)
            if interrupts:
                say("stopping: trials write a checkpoint and wait (Ctrl-C again stops at once)")
        if interrupts and not sweep.state.final:
            _take_back(client)
            _hold_back(client, sweep)
            raise KerasweepError(f"stopped early: {_what_is_done(sweep)}\n`kerasweep {again}` resumes it")


def _tell_of_others(client: Client, sweep: Sweep) -> None:
    """Print which other sweeps of this store the worker will train."""
    if not client.settings.embedded_broker:
        return
    others = [one.handle for one in client.sweeps([SweepState.RUNNING]) if one.id != sweep.id]
    if others:
        named = ", ".join(others[:_NAMED]) + (", …" if len(others) > _NAMED else "")
        say(f"also training other sweeps of this store: {named} (`kerasweep pause NAME` pauses one)")


def _take_back(client: Client) -> None:
    """Requeue the trials of a worker that was killed; if the store is out of reach, a later run will."""
    with suppress(KerasweepError):
        client.records.bury_the_dead()
        client.records.expire_leases()


def _hold_back(client: Client, sweep: Sweep) -> None:
    """Pause a sweep that nothing trains any more, so that the next run in this folder trains only its own."""
    if client.settings.embedded_broker:
        from kerasweep.scheduler.deciding import control

        # It may just have ended or been paused; if the store is out of reach, it stays as it is.
        with suppress(KerasweepError):
            control.pause(client.records, sweep.id, reason="its run was stopped")
            sweep.refresh()


def _conclude(sweep: Sweep, output: OutputFormat) -> None:
    """Print the winner, or say why there is none."""
    state, best = sweep.record.state, sweep.best_record()
    if output is not OutputFormat.TABLE:
        document: dict[str, Any] = {"sweep": sweep.id, "name": sweep.name}
        document |= report.best_document(sweep.best()) if best else {"trial": None}
        emit({**document, "state": str(state), "message": sweep.record.message}, output, _nothing)
    if state is SweepState.FAILED:
        raise failure_of(sweep)
    if best is None:
        raise KerasweepError(f"sweep {sweep.name} is {state} and has no winner: {_what_is_done(sweep)}")
    if output is OutputFormat.TABLE:
        shown = report.best_document(sweep.best())
        show(f"\nThe winner of {_what_is_done(sweep)}:\n")
        emit(shown, output, lambda: tables.best(shown, sweep.spec.metric.name))
        failed = sweep.counts().get(TrialState.FAILED, 0)
        if failed:
            told = f"kerasweep trials {sweep.handle} --state failed"
            show(f"\nThe sweep is completed; {failed} failed: {told}")
        show(f"\nFetch its model: kerasweep fetch {sweep.handle} winner")


def view_of(
    sweep: Sweep, output: OutputFormat, *, kept: bool = False, documents: bool | None = None
) -> live.View:
    """Choose the view: the live table, plain lines, or lines of JSON.

    Args:
        sweep: the sweep.
        output: the format of the command.
        kept: whether this process keeps a worker and a scheduler running for it.
        documents: whether the document of each trial goes to stdout; by default where nothing is kept.
    """
    if output is not OutputFormat.TABLE and (not kept if documents is None else documents):
        return live.Documents(sweep, line if output is OutputFormat.JSON else DocumentStream(output))
    screen = console(stderr=output is not OutputFormat.TABLE)
    if screen.is_terminal and not screen.is_dumb_terminal:
        return live.LiveTable(sweep, screen, kept=kept)
    return live.Lines(sweep, show if output is OutputFormat.TABLE else say, kept=kept)


@contextmanager
def _interrupts(at_once: Callable[[], None]) -> Iterator[list[int]]:
    """Collect the signals that ask this process to end; a second one calls `at_once`."""
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            at_once()

    before = {number: signal.signal(number, note) for number in _STOP_SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def failure_of(sweep: Sweep) -> Halted:
    """Return the error that says why a sweep failed."""
    named = [str(one.number) for one in sweep.trial_records([TrialState.FAILED])]
    more = f", and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    which = f"failed trials: {', '.join(named[:_NAMED])}{more}; " if named else ""
    return Halted(
        f"sweep {sweep.name} failed: {sweep.record.message}\n"
        f"{which}`kerasweep logs {sweep.handle}` and `kerasweep journal {sweep.handle}` say more"
    )


def _what_is_done(sweep: Sweep) -> str:
    counts = sweep.counts()
    told = ", ".join(f"{counts[state]} {state}" for state in TrialState if state.final and counts.get(state))
    return f"{wording.count(sweep.record.max_trials, 'trial')} ({told or 'none has ended'})"


def _nothing() -> Any:
    raise AssertionError("only a table is drawn")

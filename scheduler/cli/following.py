"""Commands that show a sweep as it runs: run, watch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasweep.jobs.errors import Halted, InputError, KerasweepError, OutOfReach, RunInterrupted
from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.cli import completion
from kerasweep.scheduler.cli.commands import LOOK, RUN, Output, SweepName, command
from kerasweep.scheduler.cli.dashboards import expect_installed, shown_beside
from kerasweep.scheduler.cli.flags import WorkerFlags
from kerasweep.scheduler.cli.output import DocumentStream, OutputFormat, console, emit, line, say, show
from kerasweep.scheduler.cli.submitting import (
    EngineName,
    NewName,
    WarmFrom,
    file_in,
    say_interrupted,
    say_warm_start,
)
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.attendance import Attendance
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.local.children import expect_keras
from kerasweep.scheduler.show import live, winner

if TYPE_CHECKING:
    from kerasweep.scheduler.local.embedded import Local

_OTHERS = 5
_LONGEST_S = 86_400.0
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
    "kerasweep run sweep.yaml --keep-warm 60",
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
            metavar="FILE", help="The sweep file (YAML), or the folder of a sweep.yaml.", show_default=False
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
    keep_warm: Annotated[
        float,
        typer.Option(
            "--keep-warm",
            metavar="SECONDS",
            min=0,
            max=_LONGEST_S,
            envvar="KERASWEEP_KEEP_WARM",
            help="Let the worker wait this long for the next run in this folder, which then starts at once.",
            show_default=False,
        ),
    ] = 0,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Run a whole sweep on this machine.

    It starts everything needed, shows the trials, ends with the winner, and leaves nothing running, unless
    `--keep-warm` says for how long.

    Ctrl-C stops it cleanly: finished work is kept, and `--resume` continues from there.
    A second Ctrl-C stops it at once.
    """
    if dashboard:
        expect_installed()
    if (file is None) == (resume is None):
        raise InputError(
            "a run needs a sweep file, or --resume SWEEP, and not both; see `kerasweep run --help`"
        )
    if resume is not None and warm_from is not None:
        raise InputError("--warm-from is for a new sweep, got it with --resume; leave it out")
    expect_keras()
    with _site(client, (*worker.words, f"--engine={engine}"), keep_warm) as site:
        if file is not None:
            sweep = _submit(client, site.local, file_in(file), name, engine, warm_from)
        else:
            sweep = client.sweep(str(resume))
            _expect_points(sweep)
        if not sweep.state.final:
            again = f"run --resume {sweep.handle}"
            _train_at(site, client, sweep, output, again=again, dashboard=dashboard)
    _conclude(sweep.refresh(), output)


def _submit(
    client: Client,
    local: Local,
    file: Path,
    name: str | None,
    engine: EngineName,
    warm_from: str | None,
) -> Sweep:
    """Submit the sweep while its trainer loads TensorFlow; nothing is started for an invalid file or job."""
    from kerasweep.jobs.code.program import check_job, read_sweep
    from kerasweep.jobs.sweepfile.sheet import read_sheet
    from kerasweep.scheduler.samplers.requirements import expect_packages

    spec = read_sweep(file, file.parent)
    check_job(spec, file.parent / spec.job, lambda: read_sheet(file))
    expect_packages(spec)
    say_interrupted(client, name or spec.name)
    try:
        local.start_worker()
        sweep = client.submit(file, name=name, engine=engine, warm_from=warm_from)
        say_warm_start(sweep)
        return sweep
    except BaseException:
        local.kill()
        raise


def _expect_points(sweep: Sweep) -> None:
    """Check that the scheduler started here could choose the points that a sweep still lacks.

    Raises:
        InputError: a package that its method needs is not installed.
    """
    from kerasweep.scheduler.samplers.requirements import expect_packages

    if not sweep.state.final and sum(sweep.counts().values()) < sweep.record.max_trials:
        expect_packages(sweep.spec)


@dataclass(frozen=True)
class _Site:
    """What trains here, and the signals that asked it to stop."""

    local: Local
    interrupts: list[int]


@contextmanager
def _site(client: Client, worker_flags: tuple[str, ...], keep_s: float = 0.0) -> Iterator[_Site]:
    """Yield a site that has started nothing yet, and stop what it has started; a second signal kills it."""
    local = _local(client, worker_flags, keep_s)
    with _interrupts(local.kill) as interrupts, closing(local):
        yield _Site(local, interrupts)


def _local(client: Client, worker_flags: tuple[str, ...], keep_s: float) -> Local:
    """Return what runs everything, for the life of this command or for longer."""
    from kerasweep.scheduler.local import embedded

    # A plain file name: most runs need no more of it.
    if not keep_s and not (client.settings.home_path / "warm").exists():
        return embedded.Local(client.settings, worker_flags)
    from kerasweep.scheduler.local.kept import KeptLocal

    return KeptLocal(client.settings, worker_flags, keep_s, say)


def train_here(
    client: Client, sweep: Sweep, worker_flags: tuple[str, ...], output: OutputFormat, *, again: str
) -> None:
    """Run everything that a sweep, which may be paused, needs until it has ended, or a signal asks to stop.

    Args:
        client: connections to the store.
        sweep: the sweep; it has not ended.
        worker_flags: the worker's.
        output: the format of the command; its documents are left to the caller.
        again: the command that resumes it, without `kerasweep`.

    Raises:
        RunInterrupted: a signal stopped it early.
        InputError: the sweep was paused, since something must be corrected first.
        Halted: the worker or the scheduler keeps dying.
    """
    with _site(client, worker_flags) as site:
        _train_at(site, client, sweep, output, again=again)


def _train_at(
    site: _Site, client: Client, sweep: Sweep, output: OutputFormat, *, again: str, dashboard: bool = False
) -> None:
    with Attendance(client) as attendance:
        if sweep.record.state is SweepState.PAUSED:
            sweep.resume()
        _tell_of_others(client, sweep)
        _follow(site, sweep, output, attendance, dashboard=dashboard)
        if sweep.state.final:
            return
        _take_back(client)
        left = wording.left(report.done_count(sweep.counts()), sweep.record.max_trials)
        if site.interrupts:
            _hold_back(client, sweep)
            raise RunInterrupted(f"interrupted: {left}\n`kerasweep {again}` goes on from there")
        raise InputError(
            f"sweep {sweep.name} is paused: {sweep.record.message}\n"
            f"`kerasweep {again}` goes on once that is corrected; {left}"
        )


def _follow(
    site: _Site, sweep: Sweep, output: OutputFormat, attendance: Attendance, *, dashboard: bool
) -> None:
    """Show the sweep while everything that it needs runs, until it has ended or a signal asks to stop."""
    with ExitStack() as stack:
        local = stack.enter_context(site.local)
        here = stack.enter_context(Client(local.settings))
        here.hint(sweep.id)
        if dashboard:
            address = stack.enter_context(shown_beside(local.settings))
            say(f"the page is at {address}/sweeps/{sweep.id}")

        def tick() -> bool:
            local.check()
            attendance.tell()
            return bool(site.interrupts) or shown.record.held

        shown = here.sweep(sweep.id)
        view = view_of(shown, output, kept=True)
        state = live.follow(view, tick, over=lambda: shown.state.final)
        if site.interrupts:
            say("stopping: trials write a checkpoint and wait (Ctrl-C again stops at once)")
        elif state.final:
            local.keep()
    if isinstance(view, live.Lines):
        _tell_the_last(here, shown, view)


def _tell_the_last(here: Client, sweep: Sweep, view: live.Lines) -> None:
    """Write the lines of trials that still ran when the sweep ended: what trained them has stopped since."""
    with closing(here), suppress(OutOfReach):
        if sweep.state.final:
            view.tell_ended(last=True)


def _tell_of_others(client: Client, sweep: Sweep) -> None:
    """Print which other sweeps of this store the worker will train."""
    if not client.settings.embedded_broker:
        return
    others = [one.handle for one in client.sweeps([SweepState.RUNNING]) if one.id != sweep.id]
    if others:
        named = ", ".join(others[:_OTHERS]) + (", …" if len(others) > _OTHERS else "")
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
        emit(shown, output, lambda: winner.best(shown, sweep.spec.metric.name))
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
    failed = [one.number for one in sweep.trial_records([TrialState.FAILED])]
    which = f"failed trials: {wording.some(failed)}; " if failed else ""
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

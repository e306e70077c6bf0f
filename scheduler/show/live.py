"""Shows a running sweep: a live table on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.trial import COUNTED, FINAL, SweepState, TrialState
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.client.objects import Status, Trial
from kerasweep.scheduler.show.screen import draw, take

if TYPE_CHECKING:
    from rich.console import Console

    from kerasweep.jobs.store.models import TrialRecord
    from kerasweep.scheduler.client.sweep import Sweep

_POLL_S, _LOOK_S = 0.5, 0.1
_OUTAGE_S = 60.0
#: After so long without a line, plain lines say what is going on: soon after the start, then seldom.
_SILENT_S, _AT_FIRST_S = 60.0, 10.0
_HEADER_LINES, _FOOTER_LINES, _FEWEST_ROWS = 6, 2, 4


class View(Protocol):
    """Shows a sweep somewhere."""

    def update(self) -> SweepState:
        """Read the records, show them, and return the sweep's status."""

    def close(self) -> None:
        """Show the last state and restore the terminal."""


def follow(
    view: View, tick: Callable[[], bool], pause_s: float = _POLL_S, over: Callable[[], bool] = lambda: False
) -> SweepState:
    """Show a sweep until it has ended.

    Args:
        view: the view.
        tick: called in every round; True ends the display early.
        pause_s: the time between two rounds, in seconds.
        over: whether to begin the next round at once; called several times in a pause.

    Returns:
        The sweep's last status.

    Raises:
        OutOfReach: the store did not respond for a minute; a shorter outage is waited out.
    """
    answered = time.monotonic()
    try:
        while True:
            early, state = tick(), SweepState.RUNNING
            try:
                state = view.update()
                answered = time.monotonic()
            except OutOfReach:
                if time.monotonic() - answered > _OUTAGE_S:
                    raise
            if early or state.final:
                return state
            _pause(pause_s, over)
    finally:
        view.close()


def _pause(pause_s: float, over: Callable[[], bool]) -> None:
    end = time.monotonic() + pause_s
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_S))
        with suppress(OutOfReach):
            if over():
                return


class LiveTable:
    """A table on a terminal, refreshed in place.

    Args:
        sweep: the sweep.
        console: a terminal.
        kept: whether this process keeps a worker and a scheduler running, so that none need be started.
    """

    def __init__(self, sweep: Sweep, console: Console, *, kept: bool = False) -> None:
        from rich.live import Live

        self._sweep, self._console, self._kept = sweep, console, kept
        # Rich prints text written to a terminal's stderr above the table.
        self._live = Live(
            console=console,
            auto_refresh=False,
            vertical_overflow="crop",
            redirect_stdout=False,
            redirect_stderr=sys.stderr.isatty(),
        )
        self._live.start()

    def update(self) -> SweepState:
        """Redraw the table."""
        rows = max(_FEWEST_ROWS, self._console.height - _HEADER_LINES - _FOOTER_LINES)
        snapshot = take(self._sweep, rows, kept=self._kept)
        self._live.update(draw(snapshot, self._console.width), refresh=True)
        return SweepState(snapshot.status["state"])

    def close(self) -> None:
        """Leave the last table on the screen."""
        self._live.stop()


class _Ended:
    """The trials that have ended since the last call."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._known: set[int] = set()
        self._count = 0
        self._not_before = 0.0

    def take(self, *, last: bool = False) -> list[TrialRecord]:
        """Return them in the order in which they ended; `last` asks for all, however long that takes."""
        began = time.monotonic()
        count = report.done_count(self._sweep.counts())
        if count == self._count or (began < self._not_before and not last):
            return []
        self._count = count
        new = [one for one in self._sweep.trial_records(sorted(FINAL)) if one.number not in self._known]
        self._known.update(one.number for one in new)
        # Every trial is read each time, so this is limited to a tenth of the time.
        self._not_before = time.monotonic() + 9 * (time.monotonic() - began)
        return sorted(new, key=lambda one: (one.finished_at or 0.0, one.number))


class Lines:
    """One plain line for each finished trial, for logs and pipes.

    Args:
        sweep: the sweep.
        write: takes a line.
        kept: as for `LiveTable`.
    """

    def __init__(self, sweep: Sweep, write: Callable[[str], None], *, kept: bool = False) -> None:
        self._sweep, self._write, self._kept, self._ended = sweep, write, kept, _Ended(sweep)
        self._waiting = report.STARTING if kept else None
        # A user who resumes a sweep knows what it has already done.
        self._told = len(self._ended.take(last=True)) if kept else 0
        self._reasons: dict[str, int] = {}
        self._message = ""
        self._due = time.monotonic() + _AT_FIRST_S
        metric, trials = sweep.spec.metric, wording.count(sweep.record.max_trials, "trial")
        before = f", {self._told} of them ended before" if self._told else ""
        write(f"{sweep.name} ({sweep.id}): up to {trials}{before}, {metric.goal} {metric.name}")

    def update(self) -> SweepState:
        """Write a line for each newly finished trial, and the reason if nothing happens."""
        state = self._sweep.state  # read before the trials: a sweep ends after its last one
        new = self.tell_ended(last=state.final)
        status = self._sweep.status(kept=self._kept)
        if status.message and status.message != self._message and not state.final:
            self._write(status.message)
        self._message = status.message
        told = status.waiting if status.waiting != self._waiting else None
        if told:
            self._write(told if state.final else f"waiting: {told}")
        elif not new and not state.final and time.monotonic() > self._due:
            self._write(told := _going_on(status))
        if told or new:
            self._due = time.monotonic() + _SILENT_S
        self._waiting = status.waiting or self._waiting
        if state is SweepState.COMPLETED and status.message:
            self._write(status.message)
        return state

    def tell_ended(self, *, last: bool) -> bool:
        """Write a line for each newly finished trial, and return whether there are any.

        Args:
            last: whether to write all, however long reading them takes.
        """
        new = self._ended.take(last=last)
        unbegun = [one for one in new if one.state is TrialState.CANCELLED and one.started_at is None]
        for trial in new:
            if trial not in unbegun:
                self._tell(1, self._line_of(trial))
        if unbegun:
            self._tell(len(unbegun), cancelled_line([one.number for one in unbegun]))
        return bool(new)

    def _tell(self, trials: int, text: str) -> None:
        self._told += trials
        self._write(f"[{self._told}/{self._sweep.record.max_trials}] {text}")

    def _line_of(self, trial: TrialRecord) -> str:
        planned = self._sweep.planned_epochs(trial.params)
        return ended_line(trial, self._sweep.spec.metric.name, self._same(trial), planned)

    def _same(self, trial: TrialRecord) -> int | None:
        """Return the first trial that failed with the same message, if that is another one."""
        if trial.failure is None:
            return None
        first = self._reasons.setdefault(trial.failure.message, trial.number)
        return None if first == trial.number else first

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class Documents:
    """The document of each finished trial, for programs.

    Args:
        sweep: the sweep.
        write: takes a document.
    """

    def __init__(self, sweep: Sweep, write: Callable[[report.Document], None]) -> None:
        self._sweep, self._write, self._ended = sweep, write, _Ended(sweep)

    def update(self) -> SweepState:
        """Write the document of each newly finished trial."""
        state = self._sweep.state
        for trial in self._ended.take(last=state.final):
            self._write(report.trial_document(Trial.of(trial)))
        return state

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _going_on(status: Status) -> str:
    """Describe a sweep of which no trial has ended for a while."""
    counts = {state: count for state, count in status.trials.items() if count}
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    when = "lately" if status.ended else "yet"
    return f"{status.waiting or f'no trial has ended {when}'}: {told}"


def cancelled_line(numbers: Sequence[int]) -> str:
    """Describe trials that were cancelled before they began, in one line."""
    return (
        f"{wording.numbered('trial', numbers)} cancelled before {'it' if len(numbers) == 1 else 'they'} began"
    )


def ended_line(trial: TrialRecord, metric: str, same: int | None = None, planned: int | None = None) -> str:
    """Describe a finished trial in one line.

    Args:
        trial: the trial.
        metric: the sweep's metric.
        same: another trial whose line has told the same reason, if any.
        planned: how many epochs it would have trained if it had not been stopped, if known.
    """
    head = f"trial {trial.number} {trial.state}"
    if trial.state in COUNTED:
        cut = trial.state is TrialState.STOPPED and planned is not None
        epochs = planned if cut else trial.epochs
        result = f"{metric} {wording.metric(trial.value)} at epoch {trial.best_epoch} of {epochs}"
    elif same is not None:
        result = f"as trial {same} did"
    else:
        result = f"{trial.failure.cls}: {trial.failure.message}" if trial.failure else ""
    took_s = trial.finished_at - trial.started_at if trial.finished_at and trial.started_at else None
    took = "" if took_s is None else wording.duration(took_s)
    return "  ".join(part for part in (head, result, wording.params(trial.params), took) if part)

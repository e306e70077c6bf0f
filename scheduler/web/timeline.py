"""The timeline of a sweep: which attempt ran where and when, and how it began and ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from markupsafe import Markup, escape

from kerasweep.jobs.store.models import AttemptRecord
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.web.figures import svg
from kerasweep.scheduler.web.roster import Roster

#: How many attempts are drawn: the newest.
_MOST_BARS = 400
_LEFT, _WIDTH, _ROW = 180, 815, 22
#: What fits into a bar: nothing, a sign, the trial's number, or its rung too.
_ROOM_FOR_SIGN, _ROOM_FOR_NUMBER, _ROOM_FOR_RUNG = 13, 30, 66
RESUMED, AGAIN, STOPPED, FAILED, RUNG = "↻", "↺", "■", "✗", "⚑"


@dataclass(frozen=True)
class Bar:
    """An attempt on the timeline.

    Args:
        attempt: the attempt.
        until: when it ended, or now.
        resumed: the epoch after which it began; None if it began the trial anew, or has no epoch yet.
        stopped: whether the trial was stopped after it.
    """

    attempt: AttemptRecord
    until: float
    resumed: int | None
    stopped: bool

    @property
    def kind(self) -> str:
        """How it ended, in one word: running, held (at a rung), completed, stopped, failed, released."""
        return (self.attempt.outcome or "running").partition(":")[0]

    @property
    def signs(self) -> tuple[str, str]:
        """The signs before and after the trial's number."""
        again = self.attempt.number > 1
        before = RESUMED if self.resumed else AGAIN if again else ""
        after = STOPPED if self.stopped else FAILED if self.kind == "failed" else ""
        return before, after

    @property
    def told(self) -> str:
        """Everything about it, in words."""
        began = [f"resumed after epoch {self.resumed}"] if self.resumed else []
        began += ["begun again"] if self.attempt.number > 1 and not self.resumed else []
        ended = [wording.outcome(self.attempt.outcome)]
        ended += ["then stopped"] if self.stopped and self.kind == "held" else []
        facts = [*began, *ended, wording.duration(self.until - self.attempt.started_at)]
        return f"trial {self.attempt.trial}, attempt {self.attempt.number}: {', '.join(facts)}"


@dataclass(frozen=True)
class Lane:
    """A row of the timeline, for one slot of a worker.

    Args:
        worker: the worker's name; empty if the row above has it.
        bars: its bars, as SVG.
    """

    worker: str
    bars: Markup


@dataclass(frozen=True)
class Timeline:
    """The lanes, when they begin, and how many seconds they span."""

    lanes: Sequence[Lane] = ()
    start: float = 0.0
    span_s: float = 0.0


def timeline(sweep: Sweep, roster: Roster, chosen: Sequence[Trial], base: str) -> Timeline:
    """Return the timeline of the newest attempts.

    Args:
        sweep: the sweep.
        roster: its trials and the attempts at them.
        chosen: the trials to show.
        base: the sweep's path.
    """
    trials = {one.number: one for one in chosen}
    newest = islice((one for one in reversed(roster.attempts) if one.trial in trials), _MOST_BARS)
    attempts = list(newest)[::-1]
    if not attempts:
        return Timeline()
    later = {one.trial for one in attempts if one.number > 1}
    resumed = sweep.client.records.resumed_after(sweep.id, later) if later else {}
    now = sweep.record.finished_at or time.time()
    bars = [_bar(one, trials[one.trial], resumed, now) for one in attempts]
    start = attempts[0].started_at
    span_s = max(max(one.until for one in bars) - start, 1e-3)
    return Timeline(_lanes(bars, start, span_s, base), start, span_s)


def _bar(one: AttemptRecord, trial: Trial, resumed: Mapping[tuple[int, int], int], now: float) -> Bar:
    stopped = trial.state is TrialState.STOPPED and trial.attempts == one.number
    until = one.ended_at or max(now, one.started_at)
    return Bar(one, until, resumed.get((one.trial, one.number)) if one.number > 1 else None, stopped)


def _lanes(bars: Sequence[Bar], start: float, span_s: float, base: str) -> list[Lane]:
    """Put each bar into the first row of its worker that is free."""
    rows: dict[str, list[list[Bar]]] = {}
    for bar in bars:
        mine = rows.setdefault(bar.attempt.worker, [])
        free = next((row for row in mine if row[-1].until <= bar.attempt.started_at), None)
        if free is None:
            mine.append([bar])
        else:
            free.append(bar)
    flat = [(worker if not n else "", row) for worker in sorted(rows) for n, row in enumerate(rows[worker])]
    return [
        Lane(worker, svg(_drawn(bar, start, span_s, 4 + _ROW * n, base) for bar in row))
        for n, (worker, row) in enumerate(flat)
    ]


def _drawn(bar: Bar, start: float, span_s: float, y: int, base: str) -> str:
    one = bar.attempt
    x = _LEFT + _WIDTH * (one.started_at - start) / span_s
    width = max(1.5, _WIDTH * (bar.until - one.started_at) / span_s)
    before, after = bar.signs
    rung = f'<path class="rung" d="M{x + width - 1.5:.2f} {y}v18"/>' if bar.attempt.rung else ""
    label = f"{before}{one.trial}{after}" if width > _ROOM_FOR_NUMBER else ""
    label = after or before if not label and width > _ROOM_FOR_SIGN else label
    label += f" {RUNG}{bar.attempt.rung}" if bar.attempt.rung and width > _ROOM_FOR_RUNG else ""
    text = (
        f'<text class="on" x="{x + (4 if width > _ROOM_FOR_NUMBER else 1):.2f}" y="{y + 13}">{label}</text>'
        if label
        else ""
    )
    return (
        f'<a href="{base}/trials/{one.trial}" tabindex="-1"><rect class="bar {escape(bar.kind)}" '
        f'x="{x:.2f}" y="{y}" width="{width:.2f}" height="18"><title>{escape(bar.told)}</title></rect>'
        f"{rung}{text}</a>"
    )

"""How long, and how fast, a sweep has been training: from its attempts, so that idle time does not count."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Select, and_, bindparam, case, func, or_, select
from sqlalchemy.sql.selectable import CTE

from kerasweep.jobs.store.models import TrialRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import trial_of
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState

#: A shorter pause between two attempts is queueing time, and counts as training.
_GAP_S = 2.0
#: Speed is measured over this many epochs of a trial, and at least this long.
_WINDOW_EPOCHS, _WINDOW_S = 3, 5.0
#: So many epochs for each running trial must have been trained: the first are not representative.
_FEWEST_EPOCHS = 3
#: So many trials that ended last tell how long a trial is.
_SAMPLE = 64
_LOST = f"failed: {FailureClass.LOST}"


@dataclass(frozen=True)
class Underway:
    """A running trial.

    Args:
        planned: the number of epochs that it may take.
        epochs: those that it has trained.
        age_s: the seconds since its last epoch, or since its start.
        late: whether it started when another had already ended.
    """

    planned: int
    epochs: int
    age_s: float
    late: bool


@dataclass(frozen=True)
class Pace:
    """How fast a sweep's trials have trained recently.

    Args:
        epoch_s: the seconds between two epochs of a trial.
        width: how many trials ran at once, on average.
        first_starts: how long each of the first trials took from its start to its first epoch, in seconds;
            those are first that started before any had ended.
        starts: the same of later trials.
        lengths: the epochs that each trial might have taken and those that it took, of those that ended last.
        running: the running trials.
    """

    epoch_s: float
    width: float
    first_starts: Sequence[float]
    starts: Sequence[float]
    lengths: Sequence[tuple[int, int]]
    running: Sequence[Underway]


class TimeRecords:
    """Times derived from attempts."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def spent_s(self, sweep: str) -> float:
        """Return the seconds during which at least one attempt at a sweep was running."""
        return self.spent_until(sweep, [math.inf])[0]

    def spent_until(self, sweep: str, moments: Sequence[float]) -> list[float]:
        """Return the same for the time before each of some moments: a later one never has less."""
        with self._db.reading() as conn:
            of = {"of_sweep": sweep, "now": self._db.now(conn)}
            found = [conn.execute(_SPENT, {**of, "until": moment}).scalar() for moment in moments]
        return [max(0.0, float(seconds or 0.0)) for seconds in found]

    def pace(self, sweep: str, planned: Callable[[Mapping[str, Any]], int | None]) -> Pace | None:
        """Return the recent speed of training; None if it is not known yet.

        It is measured over about three epochs of a trial, and without first epochs: before those, trials load
        the data and compile the programs.

        Args:
            sweep: its id.
            planned: returns how many epochs a trial with these parameters may take.
        """
        with self._db.reading() as conn:
            now = self._db.now(conn)
            ended = [trial_of(row) for row in conn.execute(_ENDED, {"of_sweep": sweep})]
            running = [trial_of(row) for row in conn.execute(_RUNNING, {"of_sweep": sweep})]
            since = _since(now, ended, running)
            window = {"of_sweep": sweep, "now": now, "since": since}
            steps = conn.execute(_STEPS, window).all()
            count = sum(row.epochs - 1 for row in steps)
            trained = sum(one.epochs for one in (*ended, *running))
            if not running or not count or trained < _FEWEST_EPOCHS * len(running):
                return None
            slot_s = float(conn.execute(_SLOT_SECONDS, window).scalar() or 0.0)
            first_end = float(conn.execute(_FIRST_END, window).scalar() or math.inf)
            starts = _starts(conn, sweep, [*ended, *running])
        last_at = {one.number: since for one in running if one.epochs} | {
            row.trial: row.last for row in steps
        }
        typical = round(mean(one.epochs for one in ended)) if ended else 0
        underway = [
            _underway(one, planned(one.params) or typical, now, last_at, first_end) for one in running
        ]
        return Pace(
            sum(row.last - row.first for row in steps) / count,
            slot_s / (now - since),
            [took_s for started_at, took_s in starts if started_at < first_end],
            [took_s for started_at, took_s in starts if started_at >= first_end],
            [(planned(one.params) or one.epochs, one.epochs) for one in ended],
            underway,
        )


def _starts(conn: Connection, sweep: str, trials: Sequence[TrialRecord]) -> list[tuple[float, float]]:
    """Return when trials started, and how long each took to its first epoch, in seconds."""
    rows = conn.execute(_FIRST_EPOCHS, {"of_sweep": sweep, "of": [one.number for one in trials]})
    at = {row.trial: row.at for row in rows}
    found = [(one.started_at, at[one.number]) for one in trials if one.started_at and one.number in at]
    return [(started_at, first_at - started_at) for started_at, first_at in found]


def _since(now: float, ended: Sequence[TrialRecord], running: Sequence[TrialRecord]) -> float:
    """Return the beginning of the time over which speed is measured."""
    since = min((one.started_at or now for one in (*ended, *running)), default=now)
    epochs = sum(one.epochs for one in ended)
    if not epochs:
        return since
    lasted_s = sum((one.finished_at or now) - (one.started_at or now) for one in ended)
    return max(since, now - max(_WINDOW_S, _WINDOW_EPOCHS * lasted_s / epochs))


def _underway(
    trial: TrialRecord, planned: int, now: float, last_at: Mapping[int, float], first_end: float
) -> Underway:
    started_at = trial.started_at or now
    return Underway(
        planned, trial.epochs, now - last_at.get(trial.number, started_at), started_at >= first_end
    )


def spans(now: ColumnElement[Any]) -> Select[Any]:
    """Return the query of the start and end of each attempt at a sweep.

    An attempt whose worker was lost ended with its last recorded epoch: the loss may have been noticed much
    later.
    """
    attempts, trials = t.attempts, t.trials
    newest = (
        select(func.max(t.epochs.c.at))
        .where(
            t.epochs.c.sweep == attempts.c.sweep,
            t.epochs.c.trial == attempts.c.trial,
            t.epochs.c.attempt == attempts.c.number,
        )
        .scalar_subquery()
    )
    # Not a join: it is looked up for the few attempts that have not ended.
    lease = (
        select(trials.c.lease_until)
        .where(trials.c.sweep == attempts.c.sweep, trials.c.number == attempts.c.trial)
        .scalar_subquery()
    )
    seen = func.coalesce(newest, attempts.c.started_at)
    ended = case(
        (attempts.c.outcome == _LOST, seen),
        (attempts.c.ended_at.is_not(None), attempts.c.ended_at),
        (lease >= now, now),
        else_=seen,
    )
    columns = (attempts.c.started_at.label("began"), ended.label("ended"))
    return select(*columns).where(attempts.c.sweep == bindparam("of_sweep"))


def _stretches() -> CTE:
    """Return the spans before a moment, each with the latest end of those that began before it."""
    until: ColumnElement[Any] = bindparam("until", type_=Float)
    found = spans(bindparam("now")).cte("spans")
    ended = case((found.c.ended > until, until), else_=found.c.ended).label("ended")
    before = func.max(ended).over(order_by=found.c.began, rows=(None, -1))
    cut = select(found.c.began, ended, before.label("before")).where(found.c.began < until)
    return cut.cte("stretches")


def _spent() -> Select[Any]:
    """Return the query of the total time covered by the spans, in seconds."""
    one = _stretches()
    fresh = one.c.before.is_(None) | (one.c.began > one.c.before + _GAP_S)
    counted = case(
        (fresh, one.c.ended - one.c.began),
        (one.c.ended > one.c.before, one.c.ended - one.c.before),
        else_=0.0,
    )
    return select(func.sum(counted))


def _slot_seconds() -> Select[Any]:
    """Return the query of the time since a moment that the spans cover in sum, in seconds."""
    since: ColumnElement[Any] = bindparam("since")
    # Most attempts ended before; only the others are looked at.
    late = or_(t.attempts.c.ended_at.is_(None), t.attempts.c.ended_at > since)
    one = spans(bindparam("now")).where(late).cte("spans")
    began = case((one.c.began > since, one.c.began), else_=since)
    return select(func.sum(case((one.c.ended > began, one.c.ended - began), else_=0.0)))


_SPENT, _SLOT_SECONDS = _spent(), _slot_seconds()
_OF_SWEEP = t.trials.c.sweep == bindparam("of_sweep")
_OF_TRIAL = and_(t.epochs.c.sweep == t.trials.c.sweep, t.epochs.c.trial == t.trials.c.number)
_RUNNING = select(t.trials).where(_OF_SWEEP, t.trials.c.state == TrialState.RUNNING)
_COUNTED = select(t.trials).where(_OF_SWEEP, t.trials.c.state.in_(COUNTED))
_ENDED = _COUNTED.order_by(t.trials.c.finished_at.desc()).limit(_SAMPLE)
_FIRST_END = select(func.min(t.trials.c.finished_at)).where(_OF_SWEEP, t.trials.c.state.in_(COUNTED))
_FIRST_EPOCHS = select(t.epochs.c.trial, t.epochs.c.at).where(
    t.epochs.c.sweep == bindparam("of_sweep"),
    t.epochs.c.trial.in_(bindparam("of", expanding=True)),
    t.epochs.c.epoch == 1,
)
#: Each attempt for itself: between two there may be a pause.
_STEPS = (
    select(
        t.epochs.c.trial,
        func.count().label("epochs"),
        func.min(t.epochs.c.at).label("first"),
        func.max(t.epochs.c.at).label("last"),
    )
    .select_from(t.trials.join(t.epochs, _OF_TRIAL))
    .where(
        _OF_SWEEP,
        # Only these may have new ones, and they are few; epochs are not indexed by time.
        or_(t.trials.c.state == TrialState.RUNNING, t.trials.c.finished_at >= bindparam("since")),
        t.epochs.c.at > bindparam("since"),
    )
    .group_by(t.epochs.c.trial, t.epochs.c.attempt)
    .order_by(t.epochs.c.trial, t.epochs.c.attempt)
)

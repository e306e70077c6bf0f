"""How long, and how fast, a sweep has been training: from its attempts, so that idle time does not count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, or_, select
from sqlalchemy.sql.selectable import CTE

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import trial_of
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState

#: A shorter pause between two attempts is queueing time, and counts as training.
_GAP_S = 2.0
#: The minimum time over which speed is measured, and the number of trials that ended last to use.
_WINDOW_S, _SAMPLE = 5.0, 64
_LOST = f"failed: {FailureClass.LOST}"


@dataclass(frozen=True)
class Pace:
    """How fast a sweep's trials train.

    Args:
        epochs_each: the average number of epochs of a finished trial.
        planned_each: the average number that it might have taken.
        epochs_per_s: the speed of one running trial, including waiting and compiling.
    """

    epochs_each: float
    planned_each: float
    epochs_per_s: float


class TimeRecords:
    """Times derived from attempts."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def spent_s(self, sweep: str) -> float:
        """Return the seconds during which at least one attempt at a sweep was running."""
        with self._db.reading() as conn:
            found = conn.execute(_SPENT, {"of_sweep": sweep, "now": self._db.now(conn)}).scalar()
        return max(0.0, float(found or 0.0))

    def pace(self, sweep: str, planned: Callable[[Mapping[str, Any]], int | None]) -> Pace | None:
        """Return the recent speed of training; None if it is not known yet.

        It is measured over about the length of one trial, since a sweep's first trials are slower: they load
        the data and compile the programs.

        Args:
            sweep: its id.
            planned: returns how many epochs a trial with these parameters may take.
        """
        ended = select(t.trials).where(t.trials.c.sweep == sweep, t.trials.c.state.in_(COUNTED))
        newest = ended.order_by(t.trials.c.finished_at.desc()).limit(_SAMPLE)
        with self._db.reading() as conn:
            now = self._db.now(conn)
            trials = [trial_of(row) for row in conn.execute(newest)]
            plans = [planned(trial.params) or trial.epochs for trial in trials]
            if not trials or not sum(plans):
                return None
            lasted_s = mean((one.finished_at or now) - (one.started_at or now) for one in trials)
            window = {"of_sweep": sweep, "now": now, "since": now - max(_WINDOW_S, lasted_s)}
            epochs = int(conn.execute(_NEW_EPOCHS, window).scalar_one())
            seconds = float(conn.execute(_SLOT_SECONDS, window).scalar() or 0.0)
        if not epochs or seconds <= 0.0:
            return None
        return Pace(mean(one.epochs for one in trials), mean(plans), epochs / seconds)


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
    """Return the spans, each with the latest end of those that began before it."""
    found = spans(bindparam("now")).cte("spans")
    before = func.max(found.c.ended).over(order_by=found.c.began, rows=(None, -1))
    return select(found.c.began, found.c.ended, before.label("before")).cte("stretches")


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
_OF_TRIAL = and_(t.epochs.c.sweep == t.trials.c.sweep, t.epochs.c.trial == t.trials.c.number)
_NEW_EPOCHS = (
    select(func.count())
    .select_from(t.trials.join(t.epochs, _OF_TRIAL))
    .where(
        t.trials.c.sweep == bindparam("of_sweep"),
        # Only these may have new ones, and they are few; epochs are not indexed by time.
        or_(t.trials.c.state == TrialState.RUNNING, t.trials.c.finished_at >= bindparam("since")),
        t.epochs.c.at > bindparam("since"),
    )
)

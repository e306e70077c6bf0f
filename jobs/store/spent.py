"""How long a sweep has been trained: from its attempts, so that idle time counts for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, select
from sqlalchemy.sql.selectable import CTE

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.trial import FailureClass

#: A shorter pause between two attempts is a hint's way, and counts as training.
_GAP_S = 2.0
_LOST = f"failed: {FailureClass.LOST}"


@dataclass(frozen=True)
class Spent:
    """The time in which attempts at a sweep ran, in seconds.

    Args:
        seconds: of the clock, however many ran at once.
        since: when the last stretch without a pause began, in seconds since 1970; None before the first.
    """

    seconds: float
    since: float | None


class TimeRecords:
    """What the attempts say about time."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def spent(self, sweep: str) -> Spent:
        """Return how long a sweep has been trained: not counting waits, pauses, and time without a worker."""
        with self._db.reading() as conn:
            row = conn.execute(_SPENT, {"of_sweep": sweep, "now": self._db.now(conn)}).one()
            return Spent(max(0.0, float(row.seconds or 0.0)), row.since)


def spans(now: ColumnElement[Any]) -> Select[Any]:
    """Return the query of when each attempt at a sweep began and ended.

    One whose worker was lost ended with its last epoch on record: that it was lost was found out later, on
    a machine that was switched off perhaps the next day.
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
    seen = func.coalesce(newest, attempts.c.started_at)
    ended = case(
        (attempts.c.outcome == _LOST, seen),
        (attempts.c.ended_at.is_not(None), attempts.c.ended_at),
        (trials.c.lease_until >= now, now),
        else_=seen,
    )
    of_trial = and_(trials.c.sweep == attempts.c.sweep, trials.c.number == attempts.c.trial)
    columns = (attempts.c.started_at.label("began"), ended.label("ended"))
    return select(*columns).join(trials, of_trial).where(attempts.c.sweep == bindparam("of_sweep"))


def _stretches() -> CTE:
    """Return the spans, each with the latest end of those that began before it."""
    found = spans(bindparam("now")).cte("spans")
    before = func.max(found.c.ended).over(order_by=found.c.began, rows=(None, -1))
    return select(found.c.began, found.c.ended, before.label("before")).cte("stretches")


def _spent() -> Select[Any]:
    one = _stretches()
    fresh = one.c.before.is_(None) | (one.c.began > one.c.before + _GAP_S)
    counted = case(
        (fresh, one.c.ended - one.c.began),
        (one.c.ended > one.c.before, one.c.ended - one.c.before),
        else_=0.0,
    )
    return select(func.sum(counted).label("seconds"), func.max(case((fresh, one.c.began))).label("since"))


_SPENT = _spent()

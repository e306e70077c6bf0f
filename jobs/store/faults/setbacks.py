"""How often a trial was retried without counting a failure, and why; each reason has a limit."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, select

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.moves import IS_ATTEMPT, named
from kerasweep.jobs.store.sql.rows import storable
from kerasweep.jobs.trial import FINAL, AttemptKey, FailureClass

#: The journal reason of a manual retry begins with this; it resets the trial's counts.
BY_HAND = "retry "

#: Outcomes that are retried without counting, and the class whose limit each counts towards.
_OUTCOMES = {
    f"failed: {FailureClass.MACHINE}": FailureClass.MACHINE,
    f"failed: {FailureClass.STORE}": FailureClass.STORE,
    f"failed: {FailureClass.LOST}": FailureClass.LOST,
    "released: queued": FailureClass.PREEMPTED,
}

_ALIKE = select(func.count()).where(
    t.attempts.c.sweep == bindparam("of_sweep"),
    t.attempts.c.trial == bindparam("of_trial"),
    t.attempts.c.number > bindparam("since"),
    t.attempts.c.outcome == bindparam("outcome"),
)
_SLATE = select(func.max(t.journal.c.attempt)).where(
    t.journal.c.sweep == bindparam("of_sweep"),
    t.journal.c.trial == bindparam("of_trial"),
    t.journal.c.event == "queued",
    t.journal.c.reason.startswith(BY_HAND),
)

_WAITS = t.attempts.update().where(IS_ATTEMPT, t.attempts.c.ended_at.is_(None))


@dataclass(frozen=True)
class Setback:
    """Why an unfinished trial was retried without counting, or what its attempt is waiting for.

    Args:
        trial: its number.
        cls: the class of what happened; None if the running attempt is waiting.
        count: how often it has happened.
        message: the latest message.
        at: when that was, in seconds since 1970.
    """

    trial: int
    cls: FailureClass | None
    count: int
    message: str
    at: float


class SetbackRecords:
    """What keeps trials from finishing, other than themselves."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def waits(self, key: AttemptKey, message: str) -> None:
        """Record what an attempt waits for until it ends; an empty message records nothing."""
        with self._db.writing() as conn:
            conn.execute(_WAITS, {**named(key), "message": storable(message) or None})

    def setbacks(self, sweep: str) -> list[Setback]:
        """Return the setbacks of a sweep's unfinished trials: current waits first, then the newest."""
        is_open = and_(t.trials.c.sweep == sweep, t.trials.c.state.not_in(sorted(FINAL)))
        open_trials = select(t.trials.c.number).where(is_open)
        of_open = and_(t.attempts.c.sweep == sweep, t.attempts.c.trial.in_(open_trials))
        waiting = and_(t.attempts.c.ended_at.is_(None), t.attempts.c.message.is_not(None))
        with self._db.reading() as conn:
            rows = conn.execute(select(t.attempts).where(of_open, waiting)).all()
            now = [Setback(row.trial, None, 1, row.message, row.started_at) for row in rows]
            ended = select(t.attempts).where(of_open, t.attempts.c.outcome.in_(_OUTCOMES))
            before: dict[tuple[int, FailureClass], Setback] = {}
            for row in conn.execute(ended.order_by(t.attempts.c.trial, t.attempts.c.number)):
                of_class = row.trial, _OUTCOMES[row.outcome]
                count = before[of_class].count + 1 if of_class in before else 1
                before[of_class] = Setback(*of_class, count, row.message or "", row.ended_at)
        return [*now, *sorted(before.values(), key=lambda one: -one.at)]


def count_alike(conn: Connection, key: AttemptKey, outcome: str, bound: int) -> int:
    """Return how many attempts at the trial have ended like this since its last manual retry.

    Args:
        conn: a connection.
        key: an attempt at the trial.
        outcome: the outcome as recorded for attempts.
        bound: only above it is a manual retry looked up.
    """
    named = {"of_sweep": key.sweep, "of_trial": key.trial}
    count = int(conn.execute(_ALIKE, {**named, "outcome": outcome, "since": 0}).scalar_one())
    if count < bound:
        return count
    since = conn.execute(_SLATE, named).scalar() or 0
    return int(conn.execute(_ALIKE, {**named, "outcome": outcome, "since": since}).scalar_one())

"""Moves trials between states: each move is checked against the table and leaves a journal entry.

Trials are locked in order of their numbers and the sweep before its trials, so transactions cannot deadlock.
SQLite has one writer at a time and needs none of these locks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, select

from kerasweep.jobs.errors import IllegalMove, StaleAttempt
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.rows import write_journal
from kerasweep.jobs.trial import Answer, AttemptKey, SweepState, TrialKey, TrialState, may_move, sources_of

TrialRow = Row[tuple[object, ...]]

#: The limit on bound values in one statement in SQLite's oldest builds.
_CHUNK = 500


# Statements that every claim, record and end executes are built once: SQLAlchemy takes longer to build a
# statement than SQLite to execute it.
_IS_TRIAL = and_(t.trials.c.sweep == bindparam("of_sweep"), t.trials.c.number == bindparam("of_trial"))

#: The fence: this attempt is the trial's newest, and the trial is running. Execute with `named`.
IS_HELD = and_(
    _IS_TRIAL, t.trials.c.attempt == bindparam("by_attempt"), t.trials.c.state == TrialState.RUNNING
)
IS_QUEUED = and_(_IS_TRIAL, t.trials.c.state == TrialState.QUEUED)
READ_TRIAL = select(t.trials).where(_IS_TRIAL)
IS_ATTEMPT = and_(
    t.attempts.c.sweep == bindparam("of_sweep"),
    t.attempts.c.trial == bindparam("of_trial"),
    t.attempts.c.number == bindparam("by_attempt"),
)

_LOCK = (
    select(t.trials, t.sweeps.c.state.label("sweep_state"))
    .join(t.sweeps, t.sweeps.c.id == t.trials.c.sweep)
    .order_by(t.trials.c.sweep, t.trials.c.number)
)
_LOCK_HELD = _LOCK.where(IS_HELD).with_for_update(of=t.trials, key_share=True)
_LOCK_RUNNING = _LOCK.where(
    t.trials.c.sweep == bindparam("of_sweep"),
    t.trials.c.number.in_(bindparam("numbers", expanding=True)),
    t.trials.c.state == TrialState.RUNNING,
).with_for_update(of=t.trials, key_share=True)
_END_TRIAL = t.trials.update().where(IS_HELD)
_END_ATTEMPT = t.attempts.update().where(IS_ATTEMPT)


def named(key: AttemptKey) -> dict[str, Any]:
    """Return the bind values of `IS_HELD`, `IS_ATTEMPT` and the like."""
    return {"of_sweep": key.sweep, "of_trial": key.trial, "by_attempt": key.attempt}


def lock_sweep(conn: Connection, sweep: str, *, alone: bool = False) -> None:
    """Keep schedulers away until the transaction ends, so that their requests are not overlooked.

    Args:
        conn: a writing connection.
        sweep: the sweep's id.
        alone: exclude other holders of this lock too, not only schedulers.
    """
    query = select(t.sweeps.c.id).where(t.sweeps.c.id == sweep)
    conn.execute(query.with_for_update(key_share=True) if alone else query.with_for_update(read=True))


def lock_trials(
    conn: Connection, where: ColumnElement[bool], *, skip_locked: bool = False
) -> Sequence[TrialRow]:
    """Lock trials in order of their numbers; return the rows, with the sweep's state as `sweep_state`."""
    lock = _LOCK.where(where).with_for_update(of=t.trials, key_share=True, skip_locked=skip_locked)
    return conn.execute(lock).all()


def lock_held(conn: Connection, key: AttemptKey) -> TrialRow | None:
    """Lock the attempt's trial and return its row, or None if the attempt no longer holds it."""
    return conn.execute(_LOCK_HELD, named(key)).one_or_none()


def lock_running(conn: Connection, keys: Iterable[TrialKey]) -> list[TrialRow]:
    """Lock those of the trials that are running, in order; return their rows."""
    by_sweep: dict[str, set[int]] = {}
    for key in keys:
        by_sweep.setdefault(key.sweep, set()).add(key.trial)
    rows: list[TrialRow] = []
    for sweep, numbers in sorted(by_sweep.items()):
        rows += conn.execute(_LOCK_RUNNING, {"of_sweep": sweep, "numbers": sorted(numbers)})
    return rows


def move_trials(
    conn: Connection,
    where: ColumnElement[bool],
    target: TrialState,
    now: float,
    *,
    reason: str,
    sources: Collection[TrialState] | None = None,
    **values: Any,
) -> int:
    """Move every trial of one sweep that may go to `target`; return the number of trials moved.

    Args:
        conn: a writing connection.
        where: which trials; all of one sweep.
        target: the new state.
        now: the store's time.
        reason: why, for the journal.
        sources: the states to move from; by default all that the table allows.
        values: what else changes in each row.
    """
    allowed = and_(
        where,
        t.trials.c.state.in_([state for state in sources_of(target) if not sources or state in sources]),
    )
    rows = lock_trials(conn, allowed)
    ended = now if target.final else None
    changed = {"state": target, "finished_at": ended, "hinted_at": None, "asked": None, **values}
    for start in range(0, len(rows), _CHUNK):
        numbers = [row.number for row in rows[start : start + _CHUNK]]
        conn.execute(t.trials.update().where(allowed, t.trials.c.number.in_(numbers)).values(changed))
    if rows:
        lines = [
            {
                "sweep": row.sweep,
                "trial": row.number,
                "attempt": row.attempt or None,
                "at": now,
                "event": str(target),
                "state": target,
                "reason": reason,
            }
            for row in rows
        ]
        conn.execute(t.journal.insert(), lines)
    return len(rows)


def end_attempt(
    conn: Connection,
    key: AttemptKey,
    state: TrialState,
    now: float,
    *,
    outcome: str,
    event: str,
    reason: str,
    message: str = "",
    **values: Any,
) -> None:
    """End an attempt and move its trial, in the records and in the journal.

    Raises:
        IllegalMove: a running trial cannot go there.
        StaleAttempt: the attempt no longer holds its trial.
    """
    if not may_move(TrialState.RUNNING, state):
        raise IllegalMove(
            f"a running trial cannot become {state}, asked for by attempt {key}; this is a defect"
        )
    ended = now if state.final else None
    changed: dict[str, Any] = {
        "state": state,
        "lease_until": None,
        "hinted_at": None,
        "finished_at": ended,
        **values,
    }
    if state is not TrialState.PAUSED:
        changed["asked"] = None  # a trial that was paused on its own stays so when its sweep is resumed
    if not conn.execute(_END_TRIAL, {**named(key), **changed}).rowcount:
        raise stale(key)
    conn.execute(_END_ATTEMPT, {**named(key), "ended_at": now, "outcome": outcome, "message": message})
    write_journal(conn, now, key.sweep, event, reason, trial=key.trial, attempt=key.attempt, state=state)


def stale(key: AttemptKey) -> StaleAttempt:
    """Return the error for an attempt that may not write."""
    return StaleAttempt(f"attempt {key} no longer holds its trial; what it has is not recorded")


def answer_to(row: TrialRow) -> Answer:
    """Return the answer to a running trial's attempt, from the requests made of it and of its sweep."""
    if row.asked == Answer.CANCEL or SweepState(row.sweep_state).final:
        return Answer.CANCEL
    if row.asked is not None:
        return Answer(row.asked)
    return Answer.PAUSE if row.sweep_state == SweepState.PAUSED else Answer.GO_ON


def state_after(row: TrialRow, wanted: TrialState) -> TrialState:
    """Return the state of a trial that gives up its lease: requests made meanwhile override `wanted`.

    A worker that dies before it hears of a pause must not undo it, and one that pauses after the pause was
    withdrawn must not keep it.
    """
    if wanted is TrialState.WAITING:
        held = {Answer.CANCEL: TrialState.CANCELLED}
        return held.get(answer_to(row), TrialState.PAUSED if row.asked == Answer.PAUSE else wanted)
    if wanted not in (TrialState.QUEUED, TrialState.PAUSED):
        return wanted
    asked = {Answer.PAUSE: TrialState.PAUSED, Answer.CANCEL: TrialState.CANCELLED}
    return asked.get(answer_to(row), TrialState.QUEUED)

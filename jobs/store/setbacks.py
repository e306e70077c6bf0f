"""How often a trial has been tried again at no charge, and why: each such reason has a bound."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, select

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import AttemptKey

#: How the reason of a retry asked for by hand begins in the journal: it gives a trial a clean slate.
BY_HAND = "retry "

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


def count_alike(conn: Connection, key: AttemptKey, outcome: str, bound: int) -> int:
    """Return how many attempts at the trial have ended so before, since it was last retried by hand.

    Args:
        conn: a connection.
        key: an attempt at the trial.
        outcome: the end as the attempts have it.
        bound: only beyond it does a retry by hand matter, and is looked for.
    """
    named = {"of_sweep": key.sweep, "of_trial": key.trial}
    count = int(conn.execute(_ALIKE, {**named, "outcome": outcome, "since": 0}).scalar_one())
    if count < bound:
        return count
    since = conn.execute(_SLATE, named).scalar() or 0
    return int(conn.execute(_ALIKE, {**named, "outcome": outcome, "since": since}).scalar_one())

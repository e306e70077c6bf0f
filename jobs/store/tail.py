"""Log lines as they are written, each once."""

from __future__ import annotations

from sqlalchemy import Connection, Select, select, text

from kerasweep.jobs.store.models import LogLine
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database

#: Every transaction below the first number has ended; none from the second number on has begun.
_TRANSACTIONS = text(
    "select pg_snapshot_xmin(now_)::text::bigint, pg_snapshot_xmax(now_)::text::bigint "
    "from pg_current_snapshot() as now_"
)


class LogTail:
    """The log lines of a sweep or of one trial, from the first on.

    PostgreSQL assigns a line's id before the line is committed, so a line may become visible after one with a
    higher id. Lines are therefore read again from the last id below which every transaction is known to have
    ended, skipping those already returned. SQLite has one writer at a time, so its ids become visible in
    order.

    Args:
        database: where the lines are.
        sweep: the sweep's id.
        trial: only this trial.
    """

    def __init__(self, database: Database, sweep: str, trial: int | None = None) -> None:
        self._db = database
        self._query = lines_of(sweep, trial)
        self._settled = 0
        self._returned: set[int] = set()
        # A line id, and the transactions that must end before nothing below it can appear any more.
        self._next: tuple[int, int] | None = None

    def read(self) -> list[LogLine]:
        """Return the lines committed since the last call, by id.

        Raises:
            OutOfReach: the store does not respond; the next call returns what this one did not.
        """
        with self._db.reading() as conn:
            oldest, unborn = _transactions(conn)
            rows = conn.execute(self._query.where(t.logs.c.id > self._settled))
            lines = [LogLine._make(row) for row in rows]
        fresh = [line for line in lines if line.id not in self._returned]
        self._returned.update(line.id for line in fresh)
        if self._next is None or oldest >= self._next[1]:
            self._settle(lines[-1].id if lines else self._settled, oldest, unborn)
        return fresh

    def _settle(self, newest: int, oldest: int, unborn: int) -> None:
        """Forget everything below ids that can no longer appear."""
        settled = newest if oldest >= unborn else (self._next or (self._settled, 0))[0]
        self._settled = max(self._settled, settled)
        self._returned = {line for line in self._returned if line > self._settled}
        self._next = (newest, unborn)


def lines_of(sweep: str, trial: int | None) -> Select[tuple[int, int, int, str]]:
    """Return the query of a sweep's log lines, or of one trial's, by id."""
    columns = (t.logs.c.id, t.logs.c.trial, t.logs.c.attempt, t.logs.c.text)
    query = select(*columns).where(t.logs.c.sweep == sweep).order_by(t.logs.c.id)
    return query if trial is None else query.where(t.logs.c.trial == trial)


def _transactions(conn: Connection) -> tuple[int, int]:
    """Return which transactions have ended and which have not begun; SQLite never has any in between."""
    if conn.dialect.name != "postgresql":
        return 0, 0
    oldest, unborn = conn.execute(_TRANSACTIONS).one()
    return int(oldest), int(unborn)

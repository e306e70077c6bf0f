"""Workers that are set aside: trials failed on them that others trained, or that others are asked about."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, bindparam, select

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import insert_into, storable

#: The longest time between two probes, in seconds.
LONGEST_PROBE_S = 3600.0

_IS_ASIDE = t.quarantine.c.worker == bindparam("by_worker")
#: Whether a worker may claim: it is not set aside, or a probe is due, which its claim puts off again.
MAY_CLAIM = ~(
    select(t.quarantine.c.worker)
    .where(t.quarantine.c.worker == bindparam("worker"), t.quarantine.c.probe_at > bindparam("now"))
    .exists()
)
_READ = select(t.quarantine).order_by(t.quarantine.c.worker)
_READ_ONE = select(t.quarantine).where(_IS_ASIDE)
_NEXT_PROBE = t.quarantine.update().where(_IS_ASIDE)
_RELEASE = t.quarantine.delete().where(_IS_ASIDE)


@dataclass(frozen=True)
class Quarantine:
    """A worker that is set aside.

    Args:
        worker: its name.
        sweep: the id of the sweep whose trials failed on it.
        since: when, in seconds since 1970.
        probe_at: when it may try one trial again, to be taken back if that completes.
        probe_s: how long after that it waits for the next try, in seconds.
        reason: why, for a person.
    """

    worker: str
    sweep: str
    since: float
    probe_at: float
    probe_s: float
    reason: str


class QuarantineRecords:
    """Which workers are set aside."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def quarantines(self) -> list[Quarantine]:
        """Return the workers that are set aside, by name."""
        with self._db.reading() as conn:
            return read_quarantines(conn)

    def is_aside(self, worker: str) -> bool:
        """Tell whether a worker is set aside and no probe of it is due."""
        with self._db.reading() as conn:
            row = conn.execute(_READ_ONE, {"by_worker": worker}).one_or_none()
            return row is not None and row.probe_at > self._db.now(conn)

    def release_worker(self, worker: str) -> bool:
        """Take a worker back; tell whether it was set aside."""
        with self._db.writing() as conn:
            return take_back(conn, worker)


def read_quarantines(conn: Connection) -> list[Quarantine]:
    """Return the workers that are set aside, by name."""
    return [_quarantine_of(row) for row in conn.execute(_READ)]


def set_aside(conn: Connection, quarantine: Quarantine) -> None:
    """Put a worker's quarantine on record, in place of the one before."""
    values = {**vars(quarantine), "reason": storable(quarantine.reason)}
    insert = insert_into(conn.dialect.name, t.quarantine).values(values)
    conn.execute(insert.on_conflict_do_update(index_elements=["worker"], set_=values))


def take_back(conn: Connection, worker: str) -> bool:
    """Take a worker back; tell whether it was set aside."""
    return bool(conn.execute(_RELEASE, {"by_worker": worker}).rowcount)


def begin_probe(conn: Connection, worker: str, now: float) -> None:
    """Let a worker that is set aside wait for its next probe: it has just claimed a trial as one."""
    row = conn.execute(_READ_ONE, {"by_worker": worker}).one_or_none()
    if row is not None:
        longer = min(2.0 * row.probe_s, LONGEST_PROBE_S)
        conn.execute(_NEXT_PROBE, {"by_worker": worker, "probe_at": now + row.probe_s, "probe_s": longer})


def _quarantine_of(row: Row[tuple[object, ...]]) -> Quarantine:
    return Quarantine(row.worker, row.sweep, row.since, row.probe_at, row.probe_s, row.reason)

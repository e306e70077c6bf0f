"""Quarantined workers: trials failed on them that succeeded on others, or that are being tried on others."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, bindparam, select

from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import insert_into, storable

#: The longest time between two probes, in seconds.
LONGEST_PROBE_S = 3600.0

_IS_ASIDE = t.quarantine.c.worker == bindparam("by_worker")
#: Whether a worker may claim: it is not quarantined, or a probe is due, which its claim postpones.
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
    """A quarantined worker.

    Args:
        worker: its name.
        sweep: the id of the sweep whose trials failed on it.
        since: when, in seconds since 1970.
        probe_at: when it may try one trial, to be released if that completes.
        probe_s: how long after that until the next try, in seconds.
        reason: why, for the user.
    """

    worker: str
    sweep: str
    since: float
    probe_at: float
    probe_s: float
    reason: str


class QuarantineRecords:
    """The records of quarantined workers."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def quarantines(self) -> list[Quarantine]:
        """Return the quarantined workers, by name."""
        with self._db.reading() as conn:
            return read_quarantines(conn)

    def is_aside(self, worker: str) -> bool:
        """Tell whether a worker is quarantined and no probe of it is due."""
        with self._db.reading() as conn:
            row = conn.execute(_READ_ONE, {"by_worker": worker}).one_or_none()
            return row is not None and row.probe_at > self._db.now(conn)

    def release_worker(self, worker: str) -> bool:
        """Release a worker; return whether it was quarantined."""
        with self._db.writing() as conn:
            return take_back(conn, worker)


def read_quarantines(conn: Connection) -> list[Quarantine]:
    """Return the quarantined workers, by name."""
    return [_quarantine_of(row) for row in conn.execute(_READ)]


def set_aside(conn: Connection, quarantine: Quarantine) -> None:
    """Record a worker's quarantine, replacing any earlier one."""
    values = {**vars(quarantine), "reason": storable(quarantine.reason)}
    insert = insert_into(conn.dialect.name, t.quarantine).values(values)
    conn.execute(insert.on_conflict_do_update(index_elements=["worker"], set_=values))


def take_back(conn: Connection, worker: str) -> bool:
    """Release a worker; return whether it was quarantined."""
    return bool(conn.execute(_RELEASE, {"by_worker": worker}).rowcount)


def begin_probe(conn: Connection, worker: str, now: float) -> None:
    """Postpone a quarantined worker's next probe: it has just claimed a trial as one."""
    row = conn.execute(_READ_ONE, {"by_worker": worker}).one_or_none()
    if row is not None:
        longer = min(2.0 * row.probe_s, LONGEST_PROBE_S)
        conn.execute(_NEXT_PROBE, {"by_worker": worker, "probe_at": now + row.probe_s, "probe_s": longer})


def _quarantine_of(row: Row[tuple[object, ...]]) -> Quarantine:
    return Quarantine(row.worker, row.sweep, row.since, row.probe_at, row.probe_s, row.reason)

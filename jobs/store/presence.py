"""Which workers and schedulers are alive: they register and sign off, and others remove those that died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, select

from kerasweep.jobs.kernel import ProcessKind, has_ended
from kerasweep.jobs.store.models import ProcessRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.moves import lock_trials
from kerasweep.jobs.store.sql.rows import insert_into
from kerasweep.jobs.trial import TrialState

#: Seconds without a heartbeat before a process counts as gone.
ALIVE_S = 30.0

_TABLES = {
    ProcessKind.WORKER: t.workers,
    ProcessKind.SCHEDULER: t.schedulers,
    ProcessKind.RUN: t.schedulers,
}
#: The fact that distinguishes a run from a scheduler.
_RUNS = "runs"


class PresenceRecords:
    """The records of processes with their facts; `process` among these is a `kernel.process_mark`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def seen(self, name: str, facts: Mapping[str, Any], kind: ProcessKind = ProcessKind.WORKER) -> None:
        """Record that a process is alive, and what it offers."""
        with self._db.writing() as conn:
            own = {_RUNS: True} if kind is ProcessKind.RUN else {}
            values = {"facts": {**facts, **own}, "seen_at": self._db.now(conn)}
            insert = insert_into(conn.dialect.name, _TABLES[kind]).values(id=name, **values)
            conn.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values))

    def gone(self, name: str, kind: ProcessKind = ProcessKind.WORKER) -> None:
        """Record that a process has stopped."""
        table = _TABLES[kind]
        with self._db.writing() as conn:
            conn.execute(table.delete().where(table.c.id == name))

    def alive(self, kind: ProcessKind = ProcessKind.WORKER, within_s: float = ALIVE_S) -> list[ProcessRecord]:
        """Return the processes of a kind with a heartbeat in the last `within_s` seconds."""
        table = _TABLES[kind]
        with self._db.reading() as conn:
            now = self._db.now(conn)
            query = select(table).where(table.c.seen_at >= now - within_s).order_by(table.c.id)
            found = [ProcessRecord(row.id, row.facts, now - row.seen_at) for row in conn.execute(query)]
        return [one for one in found if bool(one.facts.get(_RUNS)) == (kind is ProcessKind.RUN)]

    def bury_the_dead(self) -> list[str]:
        """Remove the records of processes that died on this machine; return their names.

        A dead worker's leases end with it, so `expire_leases` requeues its trials at once.
        """
        with self._db.reading() as conn:
            dead = [
                (table, row.id, row.facts)
                for table in (t.workers, t.schedulers)
                for row in conn.execute(select(table))
                if has_ended(row.facts.get("process"))
            ]
        return [name for table, name, facts in dead if self._bury(table, name, facts["process"])]

    def _bury(self, table: Table, name: str, process: str) -> bool:
        with self._db.writing() as conn:
            row = conn.execute(select(table).where(table.c.id == name).with_for_update()).one_or_none()
            if row is None or row.facts.get("process") != process:
                return False  # another process has the name now
            if table is t.workers:
                _end_leases(conn, name)
            conn.execute(table.delete().where(table.c.id == name))
            return True


def _end_leases(conn: Connection, worker: str) -> None:
    held = and_(t.trials.c.state == TrialState.RUNNING, t.trials.c.worker == worker)
    lock_trials(conn, held)
    conn.execute(t.trials.update().where(held).values(lease_until=0.0))

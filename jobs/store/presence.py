"""Which workers and schedulers are alive: they sign in and off, and others sign off those that died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, select

from kerasweep.jobs.kernel import has_ended
from kerasweep.jobs.store.models import ProcessRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.moves import lock_trials
from kerasweep.jobs.store.sql.rows import insert_into
from kerasweep.jobs.trial import TrialState

#: Seconds without a heartbeat before a process counts as gone.
ALIVE_S = 30.0
#: What a run's facts have that a scheduler's have not: it keeps both a scheduler and a worker.
_RUNS = "runs"


class PresenceRecords:
    """The records of processes, each with its facts; `process` among them is a `kernel.process_mark`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def seen(self, worker: str, facts: Mapping[str, Any]) -> None:
        """Record that a worker is alive, and what it offers."""
        self._sign_in(t.workers, worker, facts)

    def gone(self, worker: str) -> None:
        """Record that a worker ended in order."""
        self._sign_off(t.workers, worker)

    def workers(self, within_s: float = ALIVE_S) -> list[ProcessRecord]:
        """Return the workers that signed in within the last `within_s` seconds."""
        return self._alive(t.workers, within_s)

    def scheduler_seen(self, scheduler: str, facts: Mapping[str, Any]) -> None:
        """Record that a scheduler is alive."""
        self._sign_in(t.schedulers, scheduler, facts)

    def scheduler_gone(self, scheduler: str) -> None:
        """Record that a scheduler ended in order."""
        self._sign_off(t.schedulers, scheduler)

    def schedulers(self, within_s: float = ALIVE_S) -> list[ProcessRecord]:
        """Return the schedulers that signed in within the last `within_s` seconds."""
        return [one for one in self._alive(t.schedulers, within_s) if not one.facts.get(_RUNS)]

    def run_seen(self, run: str, facts: Mapping[str, Any]) -> None:
        """Record that a `kerasweep run` keeps a scheduler and a worker, until `scheduler_gone`."""
        self._sign_in(t.schedulers, run, {**facts, _RUNS: True})

    def runs(self, within_s: float = ALIVE_S) -> list[ProcessRecord]:
        """Return the runs that signed in within the last `within_s` seconds."""
        return [one for one in self._alive(t.schedulers, within_s) if one.facts.get(_RUNS)]

    def bury_the_dead(self) -> list[str]:
        """Sign off those whose process died on this machine; return their names.

        The leases of a dead worker's trials are over with it: `expire_leases` takes them back at once.
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
                return False  # another process has taken the name since
            if table is t.workers:
                _end_leases(conn, name)
            conn.execute(table.delete().where(table.c.id == name))
            return True

    def _sign_in(self, table: Table, name: str, facts: Mapping[str, Any]) -> None:
        with self._db.writing() as conn:
            values = {"facts": dict(facts), "seen_at": self._db.now(conn)}
            insert = insert_into(conn.dialect.name, table).values(id=name, **values)
            conn.execute(insert.on_conflict_do_update(index_elements=["id"], set_=values))

    def _sign_off(self, table: Table, name: str) -> None:
        with self._db.writing() as conn:
            conn.execute(table.delete().where(table.c.id == name))

    def _alive(self, table: Table, within_s: float) -> list[ProcessRecord]:
        with self._db.reading() as conn:
            now = self._db.now(conn)
            query = select(table).where(table.c.seen_at >= now - within_s).order_by(table.c.id)
            return [ProcessRecord(row.id, row.facts, now - row.seen_at) for row in conn.execute(query)]


def _end_leases(conn: Connection, worker: str) -> None:
    held = and_(t.trials.c.state == TrialState.RUNNING, t.trials.c.worker == worker)
    lock_trials(conn, held)
    conn.execute(t.trials.update().where(held).values(lease_until=0.0))

"""Retention: artifacts that nothing needs, and the removal of whole sweeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection, select

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import read_sweep
from kerasweep.jobs.trial import TrialState

T = TypeVar("T")

_CHUNK = 500


class RetentionRecords:
    """The records' side of deleting."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def set_aside(self, sweep: str, keys: Collection[str], grace_s: Mapping[str, float]) -> list[str]:
        """Mark the artifacts of a sweep that nothing needs; return those whose grace is over.

        Args:
            sweep: the sweep's id.
            keys: all that are unneeded now; a key that is no longer listed is needed again.
            grace_s: how long each kind waits, in seconds.
        """
        with self._db.reading() as conn:
            now = self._db.now(conn)
            columns = (t.artifacts.c.key, t.artifacts.c.kind, t.artifacts.c.unneeded_at)
            rows = conn.execute(select(*columns).where(t.artifacts.c.sweep == sweep)).all()
        unneeded = set(keys)
        fresh = [row.key for row in rows if row.key in unneeded and row.unneeded_at is None]
        again = [row.key for row in rows if row.key not in unneeded and row.unneeded_at is not None]
        if fresh or again:
            with self._db.writing() as conn:
                _set_unneeded(conn, fresh, now)
                _set_unneeded(conn, again, None)
        since = {row.key: now if row.unneeded_at is None else row.unneeded_at for row in rows}
        return [row.key for row in rows if row.key in unneeded and now - since[row.key] >= grace_s[row.kind]]

    def forget_artifacts(self, keys: Sequence[str]) -> None:
        """Remove artifacts from the records; their files are deleted afterwards."""
        with self._db.writing() as conn:
            for some in _chunks(sorted(keys)):
                conn.execute(t.artifacts.delete().where(t.artifacts.c.key.in_(some)))

    def forget_sweep(self, sweep: str) -> None:
        """Remove a sweep from the records with everything known about it; its files are deleted afterwards.

        Raises:
            InputError: it has not ended, or workers still hold some of its trials.
            NotFound: no such sweep.
        """
        with self._db.writing() as conn:
            found = read_sweep(conn, sweep, lock=True)
            running = t.trials.c.state == TrialState.RUNNING
            held = conn.execute(select(t.trials.c.number).where(t.trials.c.sweep == sweep, running)).first()
            if not found.state.final or held is not None:
                raise InputError(
                    f"a sweep must have ended to be removed, got sweep {found.name} ({sweep}), which is "
                    f"{found.state if not found.state.final else 'being ended'}\n"
                    f"`kerasweep cancel {sweep}` ends it first"
                )
            for table in reversed(t.metadata.sorted_tables):  # rows that refer to others are deleted first
                if "sweep" in table.c:
                    conn.execute(table.delete().where(table.c.sweep == sweep))
            conn.execute(t.sweeps.delete().where(t.sweeps.c.id == sweep))

    def bundles_in_use(self) -> set[str]:
        """Return the keys of the bundles that recorded sweeps need."""
        with self._db.reading() as conn:
            return set(conn.execute(select(t.sweeps.c.bundle_key)).scalars())

    def compact(self) -> None:
        """Return the space of deleted rows to the file system; PostgreSQL does so by itself."""
        self._db.compact()


def _set_unneeded(conn: Connection, keys: Sequence[str], at: float | None) -> None:
    for some in _chunks(sorted(keys)):
        conn.execute(t.artifacts.update().where(t.artifacts.c.key.in_(some)).values(unneeded_at=at))


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]

"""Decides whether a store may delete artifacts: only the store that made them may.

A store's identity is kept in its records and, with the location of its database, in a marker beside the
artifacts. A copy of the records is recognised by its different location, and records restored from a backup
by the generation, which is raised in the records first and then in the marker.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass

from sqlalchemy import select

from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database

log = logging.getLogger(__name__)

_ADOPT = "`kerasweep db adopt` gives this store the artifacts if the other is no longer in use"


@dataclass(frozen=True)
class Identity:
    """Which store this is.

    Args:
        id: its UUID, in hexadecimal.
        place: where its database is; a copy has another place.
        generation: how often its schedulers have maintained the artifacts.
        claims: whether it may mark unmarked artifacts as its own.
    """

    id: str
    place: str
    generation: int
    claims: bool


@dataclass(frozen=True)
class Marker:
    """The marker beside the artifacts; `root` distinguishes their folder from a copy of it."""

    store: str
    place: str
    root: str
    generation: int

    @classmethod
    def read(cls, artifacts: Artifacts, store: str) -> Marker | None:
        """Return the marker of a store, or None if there is none.

        Raises:
            OutOfReach: the artifacts do not respond.
        """
        data = artifacts.peek(_key(store))
        if data is None:
            return None
        try:
            found = json.loads(data)
            return cls(str(found["store"]), str(found["place"]), str(found["root"]), int(found["generation"]))
        except (ValueError, KeyError, TypeError):
            return cls(store, "a marker that cannot be read", "", 0)

    def write(self, artifacts: Artifacts) -> None:
        """Write the marker.

        Raises:
            OutOfReach: the artifacts do not respond.
        """
        artifacts.put(_key(self.store), json.dumps(asdict(self)).encode())


class IdentityRecords:
    """The identity's side of the records."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def identity(self) -> Identity:
        """Return this store's identity."""
        with self._db.reading() as conn:
            row = conn.execute(select(t.store)).one()
            return Identity(row.id, self._db.place(conn), row.generation, row.claims)

    def next_generation(self, *, above: int = 0) -> int:
        """Raise the generation above `above` and return it. From now on this store claims its artifacts."""
        with self._db.writing() as conn:
            found = conn.execute(select(t.store.c.generation).with_for_update()).scalar_one()
            generation = max(int(found), above) + 1
            conn.execute(t.store.update().values(generation=generation, claims=True))
            return generation


class Ownership:
    """Decides whether a store may delete its artifacts.

    Args:
        records: the store's records.
        artifacts: its artifacts.
        together: whether both lie in one home folder, and so are copied and moved together.
    """

    def __init__(self, records: IdentityRecords, artifacts: Artifacts, *, together: bool) -> None:
        self._records, self._artifacts, self._together = records, artifacts, together

    def doubt(self) -> str | None:
        """Return why this store may not delete, or None if it may.

        Raises:
            OutOfReach: the store or the artifacts do not respond.
        """
        mine = self._records.identity()
        return self._doubt(mine, Marker.read(self._artifacts, mine.id))

    def claim(self) -> None:
        """Mark unmarked artifacts as this store's, if it may.

        Raises:
            OutOfReach: the store or the artifacts do not respond.
        """
        mine = self._records.identity()
        if Marker.read(self._artifacts, mine.id) is None and self._doubt(mine, None) is None:
            self._write(mine, 0)

    def renew(self) -> str | None:
        """Raise the generation if this store may delete; otherwise return why not.

        Raises:
            OutOfReach: the store or the artifacts do not respond.
        """
        mine = self._records.identity()
        marker = Marker.read(self._artifacts, mine.id)
        doubt = self._doubt(mine, marker)
        if doubt is None:
            self._write(mine, 0)
        return doubt

    def adopt(self) -> None:
        """Make this store the owner of the artifacts, whatever the marker says.

        Raises:
            OutOfReach: the store or the artifacts do not respond.
        """
        mine = self._records.identity()
        marker = Marker.read(self._artifacts, mine.id)
        self._write(mine, marker.generation if marker else 0)

    def _write(self, mine: Identity, above: int) -> None:
        # raised first, so that it is never behind the marker
        generation = self._records.next_generation(above=above)
        Marker(mine.id, mine.place, self._artifacts.place, generation).write(self._artifacts)

    def _doubt(self, mine: Identity, marker: Marker | None) -> str | None:
        if marker is None:
            older = "the store predates store identities and may be a copy of another"
            return None if mine.claims or self._together else f"{older}; {_ADOPT}"
        moved = self._together and marker.root != self._artifacts.place
        if marker.place != mine.place and not moved:
            return f"the artifacts belong to another store, and this one is a copy of it; {_ADOPT}"
        if marker.generation > mine.generation and not moved:
            return f"the records are older than the artifacts, as after restoring a backup; {_ADOPT}"
        return None


def _key(store: str) -> str:
    return f"stores/{store}.json"

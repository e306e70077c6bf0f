"""The version of a database's tables, and whether this code can work with it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, select, text

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.sql import schema as t

# An arbitrary number that nobody else locks.
_LOCK = text("select pg_advisory_xact_lock(7205759403792793)")


@dataclass(frozen=True)
class StoreVersion:
    """The version of a database's tables.

    Args:
        number: the newest migration that was applied.
        compatible_from: the oldest code that works with them.
    """

    number: int
    compatible_from: int


def lock(conn: Connection) -> None:
    """Keep others from creating or upgrading the tables until the transaction ends; on SQLite it holds the
    lock already.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK)


def read(conn: Connection) -> StoreVersion | None:
    """Return the version of the tables, or None if there are none."""
    look = inspect(conn)
    if not look.has_table(t.schema.name):
        return None
    number = conn.execute(select(t.schema.c.version)).scalar()
    if number is None:
        return None
    if not look.has_table(t.store.name):
        return StoreVersion(int(number), int(number))
    compatible_from = conn.execute(select(t.store.c.compatible_from)).scalar()
    return StoreVersion(int(number), int(compatible_from or number))


def create(conn: Connection, now: float) -> StoreVersion:
    """Create the tables of this version, with a new identity."""
    t.metadata.create_all(conn)
    conn.execute(t.schema.insert().values(version=t.SCHEMA_VERSION))
    identity = {"id": uuid.uuid4().hex, "made_at": now, "compatible_from": t.COMPATIBLE_FROM}
    conn.execute(t.store.insert().values(**identity, generation=0, claims=True))
    return StoreVersion(t.SCHEMA_VERSION, t.COMPATIBLE_FROM)


def expect_compatible(found: StoreVersion) -> None:
    """Check that this code can work with the tables.

    Raises:
        InputError: they are too old or too new; the message names the remedy.
    """
    mine = t.SCHEMA_VERSION
    if found.number < mine:
        raise InputError(
            f"the store must hold tables of version {mine}, "
            f"got version {found.number} of an earlier kerasweep\n"
            "`kerasweep db upgrade` brings it up to date and keeps what it holds "
            "(a SQLite file is backed up first); `kerasweep db status` tells more"
        )
    if found.compatible_from > mine:
        raise InputError(
            f"the store must hold tables of version {mine}, got version {found.number} of a later kerasweep\n"
            "Upgrade kerasweep on this machine (pip install --upgrade kerasweep) and restart its workers and "
            "schedulers, or name another store with --store"
        )

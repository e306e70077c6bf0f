"""Brings a store of an earlier version up to date, with Alembic."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from alembic.config import Config
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.ddl.sqlite import SQLiteImpl
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, TypeDecorator, event
from sqlalchemy.exc import DBAPIError

from kerasweep.jobs.errors import InputError, KerasweepError, OutOfReach
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql import versions
from kerasweep.jobs.store.sql.drivers import open_engine, read_url, reason_of

T = TypeVar("T")

FOLDER = Path(__file__).parent.parent / "migrations"
_REMEDY = (
    "Nothing was changed. Check that the database is up and KERASWEEP_STORE_URL is right, then try again."
)


@dataclass(frozen=True)
class Upgraded:
    """The outcome of an upgrade.

    Args:
        before: the version found.
        after: the version now.
        backup: the copy of the SQLite file that was made first; None if none was.
    """

    before: int
    after: int
    backup: Path | None


class _Number(TypeDecorator[str]):
    """A revision's name, stored as the number that it is."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> int | None:
        """Convert to the database."""
        return None if value is None else int(value)

    def process_result_value(self, value: int | None, dialect: Any) -> str | None:
        """Convert from the database."""
        return None if value is None else str(value)


class _OwnVersionTable:
    """Keeps Alembic's version in `schema_version`, the table that every release of kerasweep reads."""

    def version_table_impl(self, *, version_table: str, **options: Any) -> Table:
        """Return Alembic's table; those of other programs in this process are unaffected."""
        if version_table != t.schema.name:
            return super().version_table_impl(version_table=version_table, **options)  # type: ignore[misc,no-any-return]
        return Table(
            version_table, MetaData(), Column("version", _Number, key="version_num", primary_key=True)
        )


class _SQLite(_OwnVersionTable, SQLiteImpl):
    __dialect__ = "sqlite"


class _PostgreSQL(_OwnVersionTable, PostgresqlImpl):
    __dialect__ = "postgresql"


def read_version(url: str, reach_s: float) -> versions.StoreVersion | None:
    """Return the version of a store, even an incompatible one; None if it has no tables.

    Raises:
        InputError: the URL is not a store's.
        OutOfReach: the database does not respond.
    """

    def look(engine: Engine) -> versions.StoreVersion | None:
        with engine.connect() as conn, conn.begin():
            return versions.read(conn)

    return _with_engine(url, reach_s, look)


def upgrade(url: str, reach_s: float) -> Upgraded:
    """Upgrade a store, completely or not at all; a SQLite file is copied first.

    Raises:
        InputError: the URL is not a store's, or its tables are newer than this code.
        OutOfReach: the database does not respond, or the backup cannot be written.
    """
    return _with_engine(url, reach_s, _upgrade)


def _upgrade(engine: Engine) -> Upgraded:
    with engine.connect() as conn:
        conn = conn.execution_options(kerasweep_write=True)
        with conn.begin():
            versions.lock(conn)
            found = versions.read(conn)
            if found is None:
                raise InputError("there is no store to upgrade; the first submit creates one")
            if found.number >= t.SCHEMA_VERSION:
                versions.expect_compatible(found)
                return Upgraded(found.number, found.number, None)
            backup = _back_up(engine, found.number)
            migrate(conn, "head")
            conn.execute(t.store.update().values(compatible_from=t.COMPATIBLE_FROM))
            _expect_whole(conn)
    return Upgraded(found.number, t.SCHEMA_VERSION, backup)


def migrate(conn: Connection, target: str) -> None:
    """Apply the missing migrations up to a version, in the connection's transaction.

    Args:
        conn: a writing connection.
        target: the version's number, or `head`.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    scripts = ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER)])

    def steps(revision: Any, _: Any) -> Any:
        return scripts._upgrade_revs(target, revision)

    with EnvironmentContext(config, scripts, fn=steps, destination_rev=target) as environment:
        environment.configure(
            connection=conn, version_table=t.schema.name, transactional_ddl=True, render_as_batch=True
        )
        environment.run_migrations()


def _with_engine(url: str, reach_s: float, act: Callable[[Engine], T]) -> T:
    parsed = read_url(url)
    engine = open_engine(parsed, url, reach_s)
    if engine.dialect.name == "sqlite":
        # A table that is rebuilt is dropped in between, and the rows that refer to it must stay.
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=OFF"))
    try:
        return act(engine)
    except DBAPIError as exc:
        raise OutOfReach("The store", url, _REMEDY, reason_of(exc)) from exc
    finally:
        engine.dispose()


def _back_up(engine: Engine, version: int) -> Path | None:
    """Copy the SQLite file as it is; the upgrade holds the write lock, so nothing changes meanwhile."""
    if engine.dialect.name != "sqlite":
        return None
    source = Path(str(engine.url.database)).absolute()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = source.with_name(f"{source.name}.version-{version}-{stamp}.backup")
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
    except sqlite3.Error as exc:
        raise OutOfReach(
            "The backup", str(target), "Free some space beside the store; nothing was changed.", str(exc)
        ) from exc
    return target


def _expect_whole(conn: Connection) -> None:
    if conn.dialect.name == "sqlite" and conn.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise KerasweepError("rows of the store refer to others that are gone; nothing was changed")

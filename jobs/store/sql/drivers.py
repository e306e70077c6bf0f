"""Driver specifics of SQLite and PostgreSQL: connecting, the clock, which errors are outages."""

from __future__ import annotations

import json
import re
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from kerasweep.jobs.addresses import check_store, shown
from kerasweep.jobs.errors import InputError, OutOfReach

#: The store's own time, in seconds since 1970.
NOW = {
    "sqlite": text("select (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("select extract(epoch from clock_timestamp())::double precision"),
}

#: How long a statement waits for another transaction.
LOCK_WAIT_S = 20.0

_WANTED = "the store (--store, KERASWEEP_STORE_URL) must be sqlite:///FILE or postgresql://USER@HOST/DATABASE"

# Both databases refuse numbers that JSON does not allow, not only PostgreSQL.
_to_json = partial(json.dumps, allow_nan=False, separators=(",", ":"))
# json.loads also skips white space, which takes twice as long as what is in a small column.
_decode = json.JSONDecoder().raw_decode

# A network partition is noticed after about ten seconds, not after TCP's default of two hours.
_KEEPALIVES = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# The write-ahead log is truncated to this size after a checkpoint.
_WAL_BYTES = 4 << 20

_SQLITE_OUTAGES = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOTADB,
    }
)

_POSTGRES_OUTAGES = frozenset({"OperationalError", "InterfaceError", "ReadOnlySqlTransaction"})


def read_url(url: str) -> URL:
    """Parse the store's URL.

    Raises:
        InputError: it is not a URL of a SQLite file or a PostgreSQL database.
    """
    check_store(url)
    if url.startswith("sqlite"):
        return _sqlite_url(url)
    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as exc:
        raise InputError(f"{_WANTED}, got {shown(url)}, which cannot be parsed; set it again") from exc
    _check_options(parsed, url)
    return parsed


def _sqlite_url(url: str) -> URL:
    """Take everything after `sqlite:///` as the literal path: a folder's name may contain ?, # and %20."""
    head, found, path = url.partition(":///")
    query = re.search(r"\?[^/]*$", path)  # a query contains no slash, and a path to a file ends in a name
    if not found or head not in ("sqlite", "sqlite+pysqlite") or path in ("", ":memory:") or query:
        raise InputError(
            f"{_WANTED}, got {shown(url)}, which names no file; other processes must reach it too"
        )
    return URL.create("sqlite", database=path)


def _check_options(parsed: URL, url: str) -> None:
    """Check that libpq knows the options after the question mark.

    Raises:
        InputError: it does not.
    """
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import make_conninfo
    except ImportError:
        return  # reported when the driver is loaded
    try:
        make_conninfo("", **{name: str(value) for name, value in parsed.query.items()})
    except ProgrammingError as exc:
        raise InputError(f"{_WANTED}, got {shown(url)}; {exc}\nLeave the option out") from exc


def open_engine(parsed: URL, url: str, reach_s: float) -> Engine:
    """Return the connection pool; no connection is opened yet.

    Raises:
        InputError: the driver is missing.
        OutOfReach: SQLite's folder cannot be created.
    """
    try:
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(parsed)
        return _postgres_engine(parsed, reach_s)
    except (ModuleNotFoundError, NoSuchModuleError) as exc:
        raise InputError("PostgreSQL needs the package psycopg; pip install 'kerasweep[postgres]'") from exc
    except OSError as exc:
        raise OutOfReach("The store", url, "Check that its folder can be written.", str(exc)) from exc


def is_outage(exc: DBAPIError) -> bool:
    """Tell whether an error is an outage rather than a defect of ours."""
    if exc.connection_invalidated:
        return True
    code = getattr(exc.orig, "sqlite_errorcode", None)
    if code is not None:
        return (code & 0xFF) in _SQLITE_OUTAGES
    names = {cls.__name__ for cls in type(exc.orig).__mro__}
    return bool(names & _POSTGRES_OUTAGES)


def is_denied(exc: DBAPIError) -> bool:
    """Tell whether the database refused a statement because the role lacks a privilege."""
    return type(exc.orig).__name__ == "InsufficientPrivilege"


def place_on_server(conn: Connection) -> str:
    """Return the database's identity: its oid and, if permitted, the cluster's identifier."""
    oid = conn.execute(text("select oid from pg_database where datname = current_database()")).scalar_one()
    if conn.execute(text("select has_function_privilege('pg_control_system()', 'execute')")).scalar_one():
        cluster = conn.execute(text("select system_identifier from pg_control_system()")).scalar_one()
        return f"cluster {cluster} database {oid}"
    return f"database {oid}"


def reason_of(exc: DBAPIError) -> str:
    """Return the first line of the driver's message."""
    lines = str(exc.orig).strip().splitlines() or [type(exc.orig).__name__]
    return lines[0][:160]


def _from_json(written: str) -> Any:
    """Read what `_to_json` wrote."""
    return _decode(written)[0]


def _postgres_engine(parsed: URL, reach_s: float) -> Engine:
    timeouts = f"-c lock_timeout={LOCK_WAIT_S:.0f}s -c statement_timeout={LOCK_WAIT_S + 10:.0f}s"
    # A process frozen inside a transaction must not hold its locks forever.
    timeouts += f" -c idle_in_transaction_session_timeout={LOCK_WAIT_S:.0f}s"
    return create_engine(
        parsed,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=24,
        pool_timeout=LOCK_WAIT_S,
        json_serializer=_to_json,
        connect_args={"connect_timeout": max(1, int(reach_s)), "options": timeouts, **_KEEPALIVES},
    )


def _sqlite_engine(parsed: URL) -> Engine:
    Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        parsed,
        pool_size=8,
        max_overflow=24,
        pool_timeout=LOCK_WAIT_S,
        json_serializer=_to_json,
        json_deserializer=_from_json,
        connect_args={"timeout": LOCK_WAIT_S},
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin explicitly, below
        for pragma in (
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "journal_mode=WAL",
            f"journal_size_limit={_WAL_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(conn: Connection) -> None:
        # A read that writes later would fail with "database is locked" without waiting: take the lock first.
        write = conn.get_execution_options().get("kerasweep_write")
        conn.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine

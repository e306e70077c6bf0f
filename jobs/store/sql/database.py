"""Connections to the records: transactions, the store's clock, and the errors raised when they do not
respond.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.store.sql import versions
from kerasweep.jobs.store.sql.drivers import (
    LOCK_WAIT_S,
    NOW,
    is_denied,
    is_outage,
    open_engine,
    place_on_server,
    read_url,
    reason_of,
)

log = logging.getLogger(__name__)

_REMEDY = "Check that the database is up and KERASWEEP_STORE_URL is right, then try again."
_DENIED_REMEDY = "Use a role with that privilege, such as the owner of the tables (KERASWEEP_STORE_URL)."
_FILE_REMEDY = "Put the file back, or set KERASWEEP_STORE_URL to where it is now."


class Database:
    """A connection pool whose write transactions take their lock at the start.

    Safe to share between threads; not between processes.

    Args:
        url: `sqlite:///FILE` or `postgresql://…`.
        reach_s: how long connecting may take.
        clock: a clock that replaces the store's own, for tests.

    Raises:
        InputError: a URL of another kind, or a store of an incompatible version.
        OutOfReach: the database does not respond.
    """

    def __init__(self, url: str, *, reach_s: float = 5.0, clock: Callable[[], float] | None = None) -> None:
        self.url = url
        self._clock = clock
        parsed = read_url(url)
        self._file = Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None
        self._engine = open_engine(parsed, url, reach_s)
        # SQLite writers poll for its lock; threads of one process queue here instead.
        self._turn = threading.Lock() if self._file else None
        self._inode: int | None = None
        try:
            with self.translated():
                self._prepare()
        except BaseException:
            self._engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state of the records."""
        with self.translated():
            self._expect_file()
            with self._engine.connect() as conn:
                if conn.dialect.name == "postgresql":
                    conn = conn.execution_options(isolation_level="REPEATABLE READ")
                with conn.begin():
                    yield conn

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction; SQLite takes its write lock at the start."""
        with self.translated(), self._turn_taken():
            self._expect_file()
            with self._engine.connect() as conn:
                conn = conn.execution_options(kerasweep_write=True)
                with conn.begin():
                    yield conn

    def now(self, conn: Connection) -> float:
        """Return the store's own time, in seconds since 1970."""
        return self._clock() if self._clock else float(conn.execute(NOW[conn.dialect.name]).scalar_one())

    def place(self, conn: Connection) -> str:
        """Return an identifier that distinguishes this database from a copy: a file's inode, or a server's
        own ids.
        """
        if self._file:
            return f"file {self._file.stat().st_ino}"
        return place_on_server(conn)

    def compact(self) -> None:
        """Return the space of deleted rows to the file system; PostgreSQL does so by itself.

        Raises:
            OutOfReach: another process is writing, or there is no space for SQLite's temporary copy.
        """
        if self._file:
            with self.translated(), self._turn_taken(), self._engine.connect() as conn:
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    conn.connection.cursor().execute(statement)  # outside of any transaction

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Translate the driver's errors.

        Raises:
            OutOfReach: the database does not respond.
        """
        try:
            yield
        except PoolTimeout as exc:
            raise OutOfReach("The store", self.url, _REMEDY, "every connection is busy") from exc
        except DBAPIError as exc:
            if is_denied(exc):
                raise OutOfReach("The store", self.url, _DENIED_REMEDY, reason_of(exc)) from exc
            if not is_outage(exc):
                self._explain_mistake()
                raise
            raise OutOfReach("The store", self.url, _REMEDY, reason_of(exc)) from exc

    @contextmanager
    def _turn_taken(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=LOCK_WAIT_S):
            raise OutOfReach("The store", self.url, _REMEDY, f"another thread wrote for {LOCK_WAIT_S:.0f} s")
        try:
            yield
        finally:
            self._turn.release()

    def _expect_file(self) -> None:
        """Refuse to write to a SQLite file that was deleted, which SQLite itself would do silently."""
        if self._file is None:
            return
        try:
            inode = self._file.stat().st_ino
        except OSError as exc:
            raise OutOfReach("The store", self.url, _FILE_REMEDY, str(exc)) from exc
        if inode != self._inode:  # another file has replaced it, perhaps from a backup
            self._engine.dispose()
            self._prepare()

    def _prepare(self) -> None:
        """Create the tables if there are none; refuse tables of an incompatible version."""
        with self._engine.connect() as conn, conn.begin():
            found = versions.read(conn)
        if found is None:
            found = self._create()
        versions.expect_compatible(found)
        if self._file:
            self._inode = self._file.stat().st_ino

    def _create(self) -> versions.StoreVersion:
        with self._engine.connect() as conn:
            conn = conn.execution_options(kerasweep_write=True)
            with conn.begin():
                versions.lock(conn)  # two processes may start at once
                found = versions.read(conn)
                return found or versions.create(conn, self.now(conn))

    def _explain_mistake(self) -> None:
        """Explain a failed statement if the store was upgraded under a running process.

        Raises:
            InputError: the store has an incompatible version.
        """
        with contextlib.suppress(DBAPIError), self._engine.connect() as conn, conn.begin():
            found = versions.read(conn)
            if found is not None:
                versions.expect_compatible(found)


def wait_for(url: str, deadline_s: float, **options: Any) -> Database:
    """Connect, retrying until the deadline.

    Raises:
        OutOfReach: the database did not respond in time.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            return Database(url, **options)
        except OutOfReach:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)

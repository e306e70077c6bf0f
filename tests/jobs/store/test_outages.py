"""The store goes away and comes back: only OutOfReach is raised, and no write is lost or partial."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from racers import go, in_threads, racers
from recorded import LEASE_S, a_sweep, claim, progress, put_sweep, result
from servers import PostgresServer, free_port
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from kerasweep.jobs.errors import InputError, OutOfReach
from kerasweep.jobs.store.models import NewTrial, Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql import database as engine
from kerasweep.jobs.store.sql import drivers
from kerasweep.jobs.store.sql.database import wait_for
from kerasweep.jobs.trial import Answer, SweepState, TrialKey

SWEEP = "abcd1234"
TRIAL = TrialKey(SWEEP, 0)


def out_of_reach(call: Callable[[], object]) -> str:
    """Return the parts of a call's OutOfReach error: what, why, and the remedy."""
    with pytest.raises(OutOfReach) as told:
        call()
    message = str(told.value)
    assert message.startswith("The store is out of reach at ")
    assert len(message.splitlines()) == 2
    assert told.value.remedy in message
    return message


DOC = Path(__file__).parents[3] / "docs" / "security.md"


@pytest.fixture
def looker_url(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """The store's URL for a role made by the statements of docs/security.md."""
    [statements] = re.findall(r"```sql\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    name = re.split("[/?]", postgres_url.removeprefix("postgresql://"))[1]
    Records(postgres_url).close()  # makes the tables
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(statements.replace("DATABASE kerasweep", f"DATABASE {name}").encode())
        yield postgres_url.replace("postgres@", "looker@", 1)
        owner.execute("drop owned by looker")
        owner.execute("drop role looker")


class TestARoleThatMayOnlyLook:
    def test_reads_and_is_told_what_it_may_not_do(self, postgres_url: str, looker_url: str) -> None:
        with closing(Records(postgres_url)) as owner:
            put_sweep(owner, trials=2)
        with closing(Records(looker_url)) as records:
            assert records.find_sweep("digits").id == SWEEP
            assert len(records.trials(SWEEP)) == 2
            assert records.spent_s(SWEEP) == 0
            said = out_of_reach(lambda: claim(records))
        assert "permission denied" in said
        assert "Use a role with that privilege" in said


class TestPostgresqlRestarts:
    @pytest.fixture
    def server(self) -> Iterator[PostgresServer]:
        with PostgresServer(tcp=True) as server:
            yield server

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
    def test_the_same_records_go_on_afterwards(self, server: PostgresServer, how: signal.Signals) -> None:
        records = Records(server.url(server.new_database()))
        put_sweep(records, trials=6)
        keys = in_threads(
            lambda number: claim(records, trial=number).key, 4
        )  # this many connections are pooled
        server.stop(how)
        said = out_of_reach(lambda: records.record([progress(keys[0], 1)], LEASE_S))
        assert "KERASWEEP_STORE_URL" in said
        for call in (
            records.expire_leases,
            lambda: records.claim(TRIAL, "w", 1),
            lambda: records.sweep(SWEEP),
        ):
            out_of_reach(call)
        server.start()
        answers = in_threads(lambda number: records.record([progress(keys[number], 1)], LEASE_S), 4)
        assert answers == [{key: Answer.GO_ON} for key in keys]
        records.finish(keys[0], result())
        assert claim(records, trial=5).key.attempt == 1
        records.close()

    def test_a_decision_that_is_cut_off_leaves_nothing(self, server: PostgresServer) -> None:
        records = Records(server.url(server.new_database()))
        put_sweep(records)

        def decide() -> None:
            with records.deciding(SWEEP) as decision:
                decision.add_trials([NewTrial(1, {}, 1, "why")])
                decision.set_state(SweepState.PAUSED, "why")
                server.stop(signal.SIGKILL)
                decision.note("more", "why")

        out_of_reach(decide)
        server.start()
        assert (len(records.trials(SWEEP)), records.sweep(SWEEP).state) == (1, SweepState.RUNNING)
        records.close()

    def test_waiting_calls_succeed_when_it_is_back(self, server: PostgresServer) -> None:
        url = server.url(server.new_database(), tcp=True)
        server.stop()
        out_of_reach(lambda: wait_for(url, 0.1))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(wait_for, url, 60.0)
            server.start()
            waiting.result(60).close()


class TestPostgresqlOutages:
    def test_a_connection_that_is_cut_off_is_replaced(self, postgres_url: str) -> None:
        records = Records(postgres_url)
        put_sweep(records)
        key = claim(records).key

        def cut_off_within() -> None:
            with records._db.writing() as conn:
                pid = conn.exec_driver_sql("select pg_backend_pid()").scalar()
                with psycopg.connect(postgres_url, autocommit=True) as other:
                    other.execute("select pg_terminate_backend(%s)", [pid])
                conn.exec_driver_sql("select 1")

        out_of_reach(cut_off_within)
        assert records.record([Progress(key)], LEASE_S) == {key: Answer.GO_ON}
        records.close()

    def test_a_database_that_may_only_be_read(self, postgres_url: str) -> None:
        records = Records(postgres_url)
        put_sweep(records)
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            name = conn.info.dbname
            conn.execute(f"alter database {name} set default_transaction_read_only = on".encode())
        fresh = Records(postgres_url)  # as after a failover
        assert "read-only" in out_of_reach(lambda: fresh.claim(TRIAL, "w", 1))
        assert fresh.sweep(SWEEP).name == "digits"
        for each in (records, fresh):
            each.close()

    def test_a_lock_that_is_never_given_back(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drivers, "LOCK_WAIT_S", 1)
        records = Records(postgres_url)
        put_sweep(records)
        with psycopg.connect(postgres_url) as other:
            other.execute("select * from sweeps for update")
            start = time.monotonic()
            assert "lock timeout" in out_of_reach(lambda: records.deciding(SWEEP).__enter__())
            assert time.monotonic() - start < 10
        records.close()

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://user:s3cret@127.0.0.1:{port}/records",
            "postgresql+psycopg://user:s3cret@localhost:{port}/records",
            "postgresql://user:s3cret@no-such-host.invalid/records",
            "postgresql://user:s3cret@/records?host=/nonexistent",
        ],
    )
    def test_nobody_there_is_told_soon_and_without_the_password(self, url: str) -> None:
        start = time.monotonic()
        said = out_of_reach(lambda: Records(url.format(port=free_port())))
        assert time.monotonic() - start < 10
        assert "s3cret" not in said
        assert "user:***@" in said

    def test_a_database_that_does_not_exist(self, postgres_server: PostgresServer) -> None:
        assert 'database "nowhere" does not exist' in out_of_reach(
            lambda: Records(postgres_server.url("nowhere"))
        )

    def test_without_its_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(InputError, match=r"pip install 'kerasweep\[postgres\]'"):
            Records("postgresql://user@127.0.0.1/records")


class TestSqliteOutages:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "records"

    @pytest.fixture
    def records(self, folder: Path) -> Iterator[Records]:
        records = Records(f"sqlite:///{folder / 'store.db'}")
        put_sweep(records)
        yield records
        records.close()

    def test_a_folder_that_is_gone(self, records: Records, folder: Path) -> None:
        key = claim(records).key
        shutil.rmtree(folder)
        for call in (lambda: records.record([Progress(key)], LEASE_S), lambda: records.sweep(SWEEP)):
            assert "Put the file back" in out_of_reach(call)
        assert not folder.exists(), "it is not made anew behind the user's back"

    def test_a_folder_that_is_moved_away_and_back(self, records: Records, folder: Path) -> None:
        key = claim(records).key
        folder.rename(folder.with_name("elsewhere"))
        out_of_reach(lambda: records.record([Progress(key)], LEASE_S))
        folder.with_name("elsewhere").rename(folder)
        assert records.record([Progress(key)], LEASE_S) == {key: Answer.GO_ON}

    def test_another_file_in_its_place_is_the_store_from_then_on(
        self, records: Records, folder: Path
    ) -> None:
        with sqlite3.connect(folder / "store.db") as source, sqlite3.connect(folder / "copy.db") as copy:
            source.backup(copy)
        copy.close()
        source.close()
        claim(records)
        for name in ("store.db", "store.db-wal", "store.db-shm"):
            (folder / name).unlink(missing_ok=True)
        (folder / "copy.db").rename(folder / "store.db")
        assert records.trial(TRIAL).attempt == 0, "as the backup has it"
        assert claim(records).key.attempt == 1

    def test_a_file_that_may_not_be_written(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="kerasweep-"))  # where any user may read
        try:
            url = f"sqlite:///{folder / 'store.db'}"
            Records(url).close()
            (folder / "store.db").chmod(0o444)
            folder.chmod(0o555)
            with racers("unprivileged", url, [[]]) as processes:
                (said,) = go(processes)
            assert said.startswith("The store is out of reach at ")
            assert "readonly" in said or "unable to open" in said
        finally:
            folder.chmod(0o755)
            shutil.rmtree(folder)

    def test_a_disk_that_is_full(self, records: Records) -> None:
        @event.listens_for(records._db._engine, "begin")
        def no_room(conn) -> None:  # type: ignore[no-untyped-def]
            conn.exec_driver_sql("PRAGMA max_page_count = 1")

        key = claim(records).key
        before = records.logs(SWEEP)
        said = out_of_reach(lambda: records.record([Progress(key, logs=("x" * 1_000_000,))], LEASE_S))
        assert "database or disk is full" in said
        event.remove(records._db._engine, "begin", no_room)
        assert records.logs(SWEEP) == before

    def test_a_lock_that_is_never_given_back(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drivers, "LOCK_WAIT_S", 0.2)
        records = Records(f"sqlite:///{folder / 'store.db'}")
        other = sqlite3.connect(folder / "store.db", isolation_level=None)
        other.execute("begin immediate")
        assert "database is locked" in out_of_reach(lambda: put_sweep(records))
        other.execute("rollback")
        other.close()
        put_sweep(records)
        records.close()

    def test_a_thread_that_never_ends_its_turn(
        self, records: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "LOCK_WAIT_S", 0.1)

        def write(who: int) -> object:
            return records.claim(TRIAL, "w", LEASE_S)

        with records.deciding(SWEEP):
            out_of_reach(lambda: in_threads(write, 1))
        assert in_threads(write, 1)[0] is not None

    @pytest.mark.parametrize("found", ["folder", "text"])
    def test_files_that_are_not_databases(self, tmp_path: Path, found: str) -> None:
        path = tmp_path / "store.db"
        if found == "folder":
            path.mkdir()
        else:
            path.write_text("name: digits\n" * 1000, encoding="utf-8")
        said = out_of_reach(lambda: Records(f"sqlite:///{path}"))
        assert ("unable to open" if found == "folder" else "not a database") in said

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        assert "Check that its folder" in out_of_reach(
            lambda: Records(f"sqlite:///{tmp_path / 'file' / 'store.db'}")
        )


class TestWhatIsNoOutage:
    def test_our_own_mistakes_stay_what_they_are(self, store_url: str) -> None:
        records = Records(store_url)

        def query() -> None:
            with records._db.reading() as conn:
                conn.exec_driver_sql("select nothing from nowhere")

        with pytest.raises(DBAPIError):
            query()
        records.close()

    def test_a_sweep_cannot_be_put_on_record_twice(self, live_records: Records) -> None:
        live_records.create_sweep(a_sweep())
        with pytest.raises(DBAPIError):
            live_records.create_sweep(a_sweep())

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://root:s3cret@host/db",
            "s3cret",
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///x?mode=ro",
            "",
        ],
    )
    def test_other_urls_are_refused(self, url: str) -> None:
        with pytest.raises(
            InputError, match="must be sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) as told:
            Records(url)
        assert "s3cret" not in str(told.value)

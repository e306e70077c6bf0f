"""Stores of every earlier version become identical to a new one, and keep their content."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from recorded import a_sweep, finish, put_sweep
from sqlalchemy import Engine, create_engine, inspect, text

from kerasweep.jobs.errors import InputError, OutOfReach
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql import migration, versions
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import TrialState

OLD = Path(__file__).parent / "old"


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    """The store's database, bypassing our code."""
    parsed = migration.read_url(store_url)
    if parsed.get_backend_name() == "sqlite":
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed)
    yield engine
    engine.dispose()


def make_old(engine: Engine, version: int) -> None:
    """Create a store of an earlier version, with a sweep of three trials."""
    statements = (
        (OLD / f"version-{version}-{engine.dialect.name}.sql").read_text(encoding="utf-8").split(";\n")
    )
    rows = (OLD / "rows.sql").read_text(encoding="utf-8").splitlines()
    with engine.begin() as conn:
        for statement in (*statements, *rows, f"insert into schema_version values ({version})"):
            if statement.strip():
                conn.exec_driver_sql(statement.replace("%", "%%"))


def described(engine: Engine) -> dict[str, Any]:
    """Return all tables: columns with types, keys, indexes, as reported by the database itself."""
    look = inspect(engine)
    return {
        name: {
            "columns": {
                one["name"]: (str(one["type"]), one["nullable"], str(one.get("default")))
                for one in look.get_columns(name)
            },
            "key": look.get_pk_constraint(name)["constrained_columns"],
            "foreign": sorted(
                (one["constrained_columns"], one["referred_table"], one["referred_columns"])
                for one in look.get_foreign_keys(name)
            ),
            "indexes": sorted(
                (str(one["name"]), one["column_names"], bool(one["unique"])) for one in look.get_indexes(name)
            ),
        }
        for name in look.get_table_names()
    }


def fresh(engine: Engine) -> dict[str, Any]:
    """Return the tables of a new store; the database is empty again afterwards."""
    with engine.begin() as conn:
        versions.create(conn, 0.0)
    found = described(engine)
    t.metadata.drop_all(engine)
    return found


def test_the_newest_migration_is_the_version_of_the_tables() -> None:
    numbers = sorted(int(path.name[1:].partition("_")[0]) for path in migration.FOLDER.glob("v*.py"))
    assert numbers == list(range(1, t.SCHEMA_VERSION + 1))
    assert 1 <= t.COMPATIBLE_FROM <= t.SCHEMA_VERSION


def test_all_migrations_together_make_the_fresh_tables(engine: Engine) -> None:
    wanted = fresh(engine)
    with engine.begin() as conn:
        migration.migrate(conn, "head")
    assert described(engine) == wanted


@pytest.mark.parametrize("version", [1, 2])
class TestOldStores:
    def test_become_as_fresh_ones(self, engine: Engine, store_url: str, version: int) -> None:
        wanted = fresh(engine)
        make_old(engine, version)
        done = migration.upgrade(store_url, 5.0)
        assert (done.before, done.after) == (version, t.SCHEMA_VERSION)
        assert described(engine) == wanted

    def test_keep_what_they_hold_and_go_on(self, engine: Engine, store_url: str, version: int) -> None:
        make_old(engine, version)
        with pytest.raises(InputError, match=rf"got version {version} .*\n`kerasweep db upgrade` brings"):
            Records(store_url)
        migration.upgrade(store_url, 5.0)
        with closing(Records(store_url)) as records:
            assert records.find_sweep("digits").id == "abcd1234"
            assert [one.state for one in records.trials("abcd1234")] == [
                TrialState.COMPLETED,
                TrialState.RUNNING,
                TrialState.QUEUED,
            ]
            assert records.trials("abcd1234")[0].value == 0.25
            assert [line for *_, line in records.logs("abcd1234")] == ["it's here"]
            finish(records, 2, 0.5)
            assert len(records.best(records.sweep("abcd1234"), 5)) == 2

    def test_are_upgraded_once(self, engine: Engine, store_url: str, version: int) -> None:
        make_old(engine, version)
        migration.upgrade(store_url, 5.0)
        again = migration.upgrade(store_url, 5.0)
        assert (again.before, again.backup) == (t.SCHEMA_VERSION, None)


class TestUpgrade:
    @pytest.mark.parametrize("version", range(1, t.SCHEMA_VERSION))
    def test_steps_that_were_taken_already_do_no_harm(
        self, engine: Engine, store_url: str, version: int
    ) -> None:
        Records(store_url).close()
        wanted = described(engine)
        with engine.begin() as conn:
            conn.execute(text(f"update schema_version set version = {version}"))
        migration.upgrade(store_url, 5.0)
        assert described(engine) == wanted

    def test_copies_a_sqlite_file_first(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'store.db'}"
        engine = create_engine(url)
        make_old(engine, 2)
        backup = migration.upgrade(url, 5.0).backup
        assert backup is not None
        assert backup.parent == tmp_path
        with closing(sqlite3.connect(backup)) as old:
            assert old.execute("select version from schema_version").fetchall() == [(2,)]
            assert old.execute("select count(*) from trials").fetchone() == (3,)
        engine.dispose()

    def test_changes_nothing_where_it_fails(
        self, engine: Engine, store_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_old(engine, 1)
        before = described(engine)

        def fail(conn: object) -> None:
            raise RuntimeError("power cut")

        monkeypatch.setattr(migration, "_expect_whole", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            migration.upgrade(store_url, 5.0)
        assert described(engine) == before

    def test_needs_a_store(self, store_url: str) -> None:
        with pytest.raises(InputError, match="no store to upgrade"):
            migration.upgrade(store_url, 5.0)

    def test_refuses_anything_but_a_database(self, tmp_path: Path) -> None:
        (tmp_path / "store.db").write_text("name: digits\n" * 1000, encoding="utf-8")
        with pytest.raises(OutOfReach, match="not a database"):
            migration.upgrade(f"sqlite:///{tmp_path / 'store.db'}", 5.0)


class TestVersions:
    def set_version(self, url: str, number: int, compatible_from: int) -> None:
        with closing(Records(url)) as records, records._db.writing() as conn:
            conn.execute(text(f"update schema_version set version = {number}"))
            conn.execute(text(f"update store set compatible_from = {compatible_from}"))

    def test_a_later_store_that_only_gained_is_worked_with(self, store_url: str) -> None:
        self.set_version(store_url, t.SCHEMA_VERSION + 5, t.SCHEMA_VERSION)
        with closing(Records(store_url)) as records:
            put_sweep(records, 1, a_sweep())
            assert migration.upgrade(store_url, 5.0).backup is None

    def test_a_store_that_is_too_new_is_refused(self, store_url: str) -> None:
        self.set_version(store_url, 99, 99)
        with pytest.raises(
            InputError, match="got version 99 of a later kerasweep\nUpgrade kerasweep on this"
        ):
            Records(store_url)
        with pytest.raises(InputError, match="of a later kerasweep"):
            migration.upgrade(store_url, 5.0)

    def test_a_process_whose_store_was_upgraded_meanwhile_is_told(self, store_url: str) -> None:
        with closing(Records(store_url)) as running:
            put_sweep(running)
            self.set_version(store_url, 99, 99)
            with running._db.writing() as conn:
                conn.execute(text("alter table sweeps rename column entry to job"))
            with pytest.raises(InputError, match="of a later kerasweep"):
                running.sweep("abcd1234")

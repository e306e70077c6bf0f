"""A copy of the records deletes none of the original's artifacts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from recorded import put_sweep
from servers import PostgresServer
from sqlalchemy import text

from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.identity import Marker, Ownership
from kerasweep.jobs.store.records import Records

COPY, OLDER = "this one is a copy of it", "the records are older than the artifacts"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with a store that has marked its artifacts."""
    home = tmp_path / "home"
    with opened(home) as records:
        put_sweep(records)
        assert owner(records, home).renew() is None
    return home


def opened(home: Path) -> closing[Records]:
    return closing(Records(f"sqlite:///{home / 'store.db'}"))


def owner(records: Records, home: Path, *, together: bool = False) -> Ownership:
    return Ownership(records, Artifacts(str(home / "artifacts")), together=together)


def doubt(home: Path, artifacts_of: Path, *, together: bool = False) -> str | None:
    with opened(home) as records:
        return owner(records, artifacts_of, together=together).doubt()


class TestFiles:
    def test_the_store_itself_may_delete(self, home: Path) -> None:
        for _ in range(3):
            with opened(home) as records:
                assert owner(records, home).renew() is None

    @pytest.mark.parametrize("together", [False, True])
    def test_a_copied_file_may_not(self, home: Path, tmp_path: Path, together: bool) -> None:
        (tmp_path / "copy").mkdir()
        shutil.copy2(home / "store.db", tmp_path / "copy")
        assert COPY in str(doubt(tmp_path / "copy", home, together=together))
        with opened(tmp_path / "copy") as records:
            assert COPY in str(owner(records, home).renew())
        assert doubt(home, home) is None

    @pytest.mark.parametrize("together", [False, True])
    def test_a_backup_written_over_the_file_may_not(self, home: Path, tmp_path: Path, together: bool) -> None:
        shutil.copy2(home / "store.db", tmp_path / "backup.db")
        with opened(home) as records:
            assert owner(records, home).renew() is None
        (home / "store.db").write_bytes((tmp_path / "backup.db").read_bytes())
        assert OLDER in str(doubt(home, home, together=together))

    def test_a_moved_home_may(self, home: Path, tmp_path: Path) -> None:
        home.rename(tmp_path / "elsewhere")
        assert doubt(tmp_path / "elsewhere", tmp_path / "elsewhere") is None

    def test_a_copied_home_may_delete_in_its_own_artifacts(self, home: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(home, copy)
        assert doubt(copy, copy, together=True) is None
        assert COPY in str(doubt(copy, home, together=True))
        with opened(copy) as records:
            assert owner(records, copy, together=True).renew() is None
        assert doubt(home, home, together=True) is None

    def test_adopting_moves_the_right(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "copy").mkdir()
        shutil.copy2(home / "store.db", tmp_path / "copy")
        with opened(tmp_path / "copy") as records:
            owner(records, home).adopt()
            assert owner(records, home).renew() is None
        assert COPY in str(doubt(home, home))

    def test_an_older_store_waits_to_be_told(self, home: Path) -> None:
        with opened(home) as records:
            with records._db.writing() as conn:
                conn.execute(text("update store set claims = 0"))
            shutil.rmtree(home / "artifacts")
            owner(records, home).claim()
            assert "predates store identities" in str(owner(records, home).renew())
            assert owner(records, home, together=True).renew() is None
            assert owner(records, home).renew() is None

    def test_two_stores_may_share_their_artifacts(self, home: Path, tmp_path: Path) -> None:
        with opened(tmp_path / "other") as records:
            assert owner(records, home).renew() is None
        assert doubt(home, home) is None

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"store": 1}', b"\xff\xfe"])
    def test_an_unreadable_marker_gives_no_permission(self, home: Path, content: bytes) -> None:
        artifacts = Artifacts(str(home / "artifacts"))
        (key,) = artifacts.keys("stores")
        artifacts.put(key, content)
        assert COPY in str(doubt(home, home))


class TestDatabases:
    @pytest.fixture
    def urls(self, postgres_server: PostgresServer) -> Iterator[tuple[str, str]]:
        """A database, and a copy of it."""
        import psycopg

        name = postgres_server.new_database()
        with closing(Records(postgres_server.url(name))) as records:
            put_sweep(records)
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as conn:
            conn.execute(f"create database {name}_copy template {name}".encode())
        yield postgres_server.url(name), postgres_server.url(f"{name}_copy")
        postgres_server.drop_database(name)
        postgres_server.drop_database(f"{name}_copy")

    def test_a_copy_may_not_delete(self, urls: tuple[str, str], tmp_path: Path) -> None:
        artifacts = Artifacts(str(tmp_path / "artifacts"))
        with closing(Records(urls[0])) as original, closing(Records(urls[1])) as copy:
            Ownership(original, artifacts, together=False).claim()
            assert original.identity().id == copy.identity().id
            assert COPY in str(Ownership(copy, artifacts, together=False).renew())
            assert Ownership(original, artifacts, together=False).renew() is None
            marker = Marker.read(artifacts, original.identity().id)
            assert marker is not None
            assert marker.generation == original.identity().generation == 2

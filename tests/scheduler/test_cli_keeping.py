"""rm, gc and db remove only what was asked for, and nothing of another store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.client.removal import size_of, span_s

if TYPE_CHECKING:
    from tests.scheduler.conftest import Shell, Stage


def ended(stage: Stage, name: str = "digits") -> str:
    """Return a sweep that has ended, with two models."""
    sweep = stage.sweep(name=name)
    stage.complete(sweep, 0, [0.4])
    stage.complete(sweep, 1, [0.2])
    stage.end(sweep, SweepState.COMPLETED)
    return sweep


def age(stage: Stage, seconds: float = 7200.0) -> None:
    """Make every file older."""
    for path in (stage.home / "artifacts").rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


class TestRm:
    def test_removes_records_and_files_of_what_it_names_alone(self, stage: Stage, shell: Shell) -> None:
        other, sweep = ended(stage, "other"), ended(stage)
        stage.artifacts.put(f"tensorboard/{sweep}/0/events.out", b"curves")
        shell("rm", "digits", "--yes")
        assert shell.code == 0, shell.err
        assert f"removed digits ({sweep})" in shell.out
        assert [one["name"] for one in json.loads(shell("ls", "-o", "json"))] == ["other"]
        assert not list((stage.home / "artifacts").rglob(f"*{sweep}*"))
        assert len(stage.artifacts.keys(f"sweeps/{other}")) == 2
        with closing(sqlite3.connect(stage.home / "store.db")) as db:
            for table in ("trials", "attempts", "epochs", "artifacts", "logs", "journal"):
                found = {row[0] for row in db.execute(f"select sweep from {table}")}
                assert found == {other}, table

    def test_refuses_what_has_not_ended(self, stage: Stage, shell: Shell) -> None:
        sweep = stage.sweep(name="digits")
        shell("rm", "digits", "--yes")
        assert shell.code == 2
        assert f"got sweep digits ({sweep}), which is running" in shell.err
        assert "kerasweep cancel digits" in shell.err
        shell("rm", "digits", "--cancel", "--yes")
        assert shell.code == 0, shell.err
        assert json.loads(shell("ls", "-o", "json")) == []

    def test_refuses_what_a_worker_still_holds(self, stage: Stage) -> None:
        sweep = stage.sweep()
        stage.claim(sweep, 0)
        stage.end(sweep, SweepState.CANCELLED)
        with pytest.raises(InputError, match="which is being ended"):
            stage.records.forget_sweep(sweep)

    def test_asks_first(self, stage: Stage, shell: Shell) -> None:
        ended(stage)
        shell("rm", "digits")
        assert shell.code == 2
        assert "add --yes" in shell.err
        assert len(json.loads(shell("ls", "-o", "json"))) == 1

    def test_takes_those_that_are_old_enough(self, stage: Stage, shell: Shell) -> None:
        old = ended(stage, "old")
        ended(stage, "new")
        with closing(sqlite3.connect(stage.home / "store.db")) as db, db:
            db.execute("update sweeps set finished_at = finished_at - 40 * 86400 where id = ?", (old,))
        assert "removed old" in shell("rm", "--older-than", "30d", "--yes")
        assert [one["name"] for one in json.loads(shell("ls", "-o", "json"))] == ["new"]
        shell("rm", "--older-than", "30d", "--yes")
        assert (shell.code, shell.err) == (0, "no sweep is that old\n")

    def test_keeps_the_best(self, stage: Stage, shell: Shell) -> None:
        sweep = ended(stage)
        shell("rm", "digits", "--keep-best", "--yes")
        assert shell.code == 0, shell.err
        assert [key.split("/")[3] for key in stage.artifacts.keys(f"sweeps/{sweep}")] == ["1"]
        assert json.loads(shell("best", "digits", "-o", "json"))["model"] is not None

    def test_of_a_copy_leaves_the_files(self, stage: Stage, shell: Shell, tmp_path: Path) -> None:
        sweep = ended(stage)
        shell("gc")
        shutil.copy2(stage.home / "store.db", tmp_path / "copy.db")
        where = ("--store", f"sqlite:///{tmp_path / 'copy.db'}", "--artifacts", str(stage.home / "artifacts"))
        shell("rm", "digits", "--yes", *where)
        assert shell.code == 0, shell.err
        assert "its files stay: the artifacts belong to another store" in shell.out
        assert len(stage.artifacts.keys(f"sweeps/{sweep}")) == 2
        found = json.loads(shell("doctor", "-o", "json", *where))
        assert any("delete nothing" in one["detail"] and "db adopt" in one["remedy"] for one in found)

    @pytest.mark.parametrize("words", [["rm"], ["rm", "--older-than", "long"], ["rm", "nothing"]])
    def test_what_cannot_be_meant(self, stage: Stage, shell: Shell, words: list[str]) -> None:
        ended(stage)
        shell(*words, "--yes")
        assert shell.code == 2


class TestGc:
    def test_deletes_what_nothing_needs_once_it_is_old(self, stage: Stage, shell: Shell) -> None:
        sweep = ended(stage)
        used, unused, lost = "bundles/0.zip", "bundles/1.zip", "sweeps/0000dead/trials/0/1/model.keras"
        for key in (used, unused, lost, f"sweeps/{sweep}/trials/0/7/model.keras"):
            stage.artifacts.put(key, b"x")
        shell("gc")
        assert "deleted 0 artifacts, 0 bundles and 0 sweeps not on record" in shell.out
        age(stage)
        shell("gc")
        assert "deleted 1 artifact, 1 bundle and 1 sweep not on record" in shell.out
        assert stage.artifacts.keys("bundles") == [used]
        assert len(stage.artifacts.keys("sweeps")) == len(stage.artifacts.keys(f"sweeps/{sweep}")) == 2

    def test_keeps_what_may_belong_to_another_store(self, stage: Stage, shell: Shell, tmp_path: Path) -> None:
        ended(stage)
        for key in ("bundles/1.zip", "sweeps/0000dead/trials/0/1/model.keras"):
            stage.artifacts.put(key, b"x")
        age(stage)
        stage.artifacts.put("stores/another.json", b"{}")
        shell("gc")
        assert "deleted 0 artifacts, 0 bundles and 0 sweeps" in shell.out

    def test_compacts_the_file(self, stage: Stage, shell: Shell) -> None:
        for _ in range(3):
            ended(stage)
        with closing(sqlite3.connect(stage.home / "store.db")) as db, db:
            db.execute("update sweeps set message = hex(zeroblob(500000))")
            db.execute("update sweeps set message = ''")
        with closing(sqlite3.connect(stage.home / "store.db")) as db:
            db.execute("pragma wal_checkpoint(truncate)")
        before = (stage.home / "store.db").stat().st_size
        shell("gc")
        assert (stage.home / "store.db").stat().st_size < before / 2


def test_doctor_reports_the_size_of_the_home_folder(stage: Stage, shell: Shell) -> None:
    ended(stage)
    found = {one["check"]: one["detail"] for one in json.loads(shell("doctor", "-o", "json"))}
    assert "it uses" in found["disk"]
    assert size_of(stage.home) > 4096


def test_doctor_lists_the_packages_of_methods(
    folder: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise PackageNotFoundError
        return "1.0"

    monkeypatch.setattr("kerasweep.scheduler.client.diagnosis.version", version)
    found = {one["check"]: one for one in json.loads(shell("doctor", "-o", "json"))}
    torch, cmaes = found["torch"], found["cmaes"]
    assert (torch["state"], torch["remedy"]) == ("note", "pip install 'kerasweep[gp]'")
    assert "method gp" in torch["detail"]
    assert (cmaes["state"], cmaes["detail"]) == ("ok", "1.0")


def test_spans() -> None:
    assert [span_s(text) for text in ("30d", "12 h", "1.5w", "90s", "5M")] == [
        2592000.0,
        43200.0,
        907200.0,
        90.0,
        300.0,
    ]


def test_db_status_and_upgrade(stage: Stage, shell: Shell) -> None:
    with closing(sqlite3.connect(stage.home / "store.db")) as db, db:
        db.execute("update schema_version set version = 1")
    shell("ls")
    assert shell.code == 2
    assert "`kerasweep db upgrade` brings it up to date" in shell.err
    assert json.loads(shell("db", "status", "-o", "json"))["found"] == 1
    told = json.loads(shell("db", "upgrade", "-o", "json"))
    assert Path(told["backup"]).exists()
    shell("ls")
    assert shell.code == 0

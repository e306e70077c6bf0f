"""A model file finds space in another folder, or waits for it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.workers.trainer.room import is_refusal, with_room

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_full_folder_is_left_for_one_beside_the_artifacts(tmp_path: Path) -> None:
    artifacts, seen = Artifacts(str(tmp_path / "artifacts")), []

    def write(folder: Path) -> str:
        seen.append(folder)
        if len(seen) == 1:
            raise FULL
        return "written"

    assert with_room(artifacts, write) == "written"
    assert seen[1].is_relative_to(tmp_path / "artifacts")
    assert list((tmp_path / "artifacts").iterdir()) == [], "nothing is left behind"
    assert artifacts.keys() == []


def test_no_room_anywhere_is_told(tmp_path: Path) -> None:
    def write(_: Path) -> None:
        raise FULL

    with pytest.raises(OutOfReach, match="No space left") as caught:
        with_room(Artifacts(str(tmp_path)), write)
    assert not is_refusal(caught.value)


def test_another_error_is_the_jobs(tmp_path: Path) -> None:
    def write(_: Path) -> None:
        raise ValueError("a layer that cannot be saved")

    with pytest.raises(ValueError, match="cannot be saved"):
        with_room(Artifacts(str(tmp_path)), write)


def test_a_403_is_a_refusal() -> None:
    assert is_refusal(OutOfReach("The artifact store", "s3://b", "", "An error occurred (403): Forbidden"))
    assert not is_refusal(OutOfReach("The artifact store", "s3://b", "", "Connection reset by peer"))

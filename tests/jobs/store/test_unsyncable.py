"""A file system whose folders cannot be synced is used, with a warning."""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from pathlib import Path

import pytest

from kerasweep.jobs.store import whole_file
from kerasweep.jobs.store.whole_file import sweep_leftovers, write_whole


def refuse_folders(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    whole_file._told.clear()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_it_is_used_and_warned_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    refuse_folders(monkeypatch, number)
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b"):
            write_whole(tmp_path / "new" / name, [b"content"], below=tmp_path)
    assert (tmp_path / "new" / "b").read_bytes() == b"content"
    assert len([one for one in caplog.records if "cannot be synced" in one.message]) == 1


def test_a_failing_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_folders(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(tmp_path / "a", [b"content"])


def test_what_lies_in_a_temporary_folder_is_a_leftover(tmp_path: Path) -> None:
    left = tmp_path / ".work.x.0123abcd~"
    left.mkdir()
    (left / "model.keras").write_bytes(b"half")
    assert sweep_leftovers(tmp_path, 3600.0) == 0
    old = time.time() - 7200
    os.utime(left / "model.keras", (old, old))
    assert sweep_leftovers(tmp_path, 3600.0) == 1
    os.utime(left, (old, old))
    sweep_leftovers(tmp_path, 3600.0)
    assert list(tmp_path.iterdir()) == []

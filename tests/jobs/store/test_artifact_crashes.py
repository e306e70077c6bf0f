"""Whatever happens while an artifact is written, a reader finds the old or the new one, complete."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.store import whole_file
from kerasweep.jobs.store.artifacts import Artifacts

KEY = "sweeps/abcd1234/trials/0/1/checkpoint-3.npz"
WRITER = Path(__file__).with_name("writer.py")
OLD = b"the one before" * 1000
OLD_SHA = hashlib.sha256(OLD).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def artifacts(folder: Path) -> Artifacts:
    """Artifacts with one in them."""
    artifacts = Artifacts(str(folder))
    artifacts.put(KEY, OLD)
    return artifacts


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


class TestKilledWriters:
    def test_leave_whole_files_only(self, artifacts: Artifacts, folder: Path) -> None:
        moment, whole = random.Random(7), {OLD_SHA}
        for _ in range(6):
            with subprocess.Popen(
                [sys.executable, WRITER, str(folder), KEY], stdout=subprocess.PIPE, text=True
            ) as writer:
                assert writer.stdout
                whole.add(writer.stdout.readline().split()[1])
                time.sleep(moment.uniform(0, 0.1))  # no condition to wait for: any moment will do
                writer.kill()
                whole |= {line.split()[1] for line in writer.stdout if len(line.split()) == 3}
            data = Path(artifacts._path(KEY)).read_bytes()
            # The last version may have been renamed before its digest was printed.
            assert hashlib.sha256(data).hexdigest() in whole or data == data[:1] * len(data), "half a file"
            assert (len(data) - 300_000) % 256 == data[0] or data == OLD
            assert artifacts.keys() == [KEY]

    @pytest.mark.parametrize(
        ("stage", "new"),
        [
            ("in mid-write", False),
            ("before the sync", False),
            ("after the sync", False),
            ("before the rename", False),
            ("after the rename", True),
        ],
    )
    def test_at_each_stage(self, artifacts: Artifacts, folder: Path, stage: str, new: bool) -> None:
        command = [sys.executable, str(WRITER), str(folder), KEY, stage]
        assert subprocess.run(command, timeout=60, check=False).returncode == 9
        if new:
            data = bytes([1]) * 300_001
            assert artifacts.get(KEY, hashlib.sha256(data).hexdigest()) == data
        else:
            assert artifacts.get(KEY, OLD_SHA) == OLD
        assert artifacts.keys() == [KEY]
        assert len(leftovers(folder)) == (0 if new else 1)
        assert artifacts.sweep_temporary(older_than_s=3600) == 0, "it may have a living writer"
        assert artifacts.sweep_temporary(older_than_s=-1) == (0 if new else 1)
        assert leftovers(folder) == []
        assert artifacts.keys() == [KEY]


class TestFaults:
    @pytest.mark.parametrize("stage", ["open", "fsync", "replace"])
    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (errno.ENOSPC, "the disk is full"),
            (errno.EDQUOT, "the disk quota is spent"),
            (errno.EIO, "Input/output error"),
            (errno.EROFS, "Read-only file system"),
        ],
    )
    def test_at_each_stage_leave_the_one_before(
        self,
        artifacts: Artifacts,
        folder: Path,
        stage: str,
        number: int,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(
                *{"open": (Path, "open"), "fsync": (os, "fsync"), "replace": (os, "replace")}[stage], fail
            )
            for call in (
                lambda: artifacts.put(KEY, b"new"),
                lambda: artifacts.put("a/new/folder/key", b"new"),
            ):
                with pytest.raises(OutOfReach, match=said) as told:
                    call()
        assert f"out of reach at {folder}" in str(told.value)
        assert ("Free some space" in told.value.remedy) is (number != errno.EIO and number != errno.EROFS)
        assert leftovers(folder) == []
        assert artifacts.keys() == [KEY]
        assert artifacts.get(KEY, OLD_SHA) == OLD

    def test_a_source_that_breaks_off_leaves_nothing(self, artifacts: Artifacts, folder: Path) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            whole_file.write_whole(folder / KEY, chunks())
        assert leftovers(folder) == []
        assert artifacts.get(KEY, OLD_SHA) == OLD

    def test_a_file_larger_than_is_allowed(self, artifacts: Artifacts, folder: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(OutOfReach, match="the file is too large"):
                artifacts.put(KEY, b"x" * 200_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert leftovers(folder) == []
        assert artifacts.get(KEY, OLD_SHA) == OLD

    def test_a_disk_that_is_really_full(self, tmp_path: Path) -> None:
        place = tmp_path / "small"
        place.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
        if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        try:
            artifacts = Artifacts(str(place / "artifacts"))
            artifacts.put(KEY, OLD)
            with pytest.raises(OutOfReach, match="the disk is full"):
                artifacts.put(KEY, b"x" * 300_000)
            assert artifacts.get(KEY, OLD_SHA) == OLD
            artifacts.put(KEY, b"a smaller one")
        finally:
            subprocess.run(["umount", str(place)], check=True)

    def test_a_target_that_cannot_be_written_is_not_the_stores_fault(
        self, artifacts: Artifacts, tmp_path: Path
    ) -> None:
        with pytest.raises(OutOfReach, match="The destination is out of reach"):
            artifacts.fetch(KEY, OLD_SHA, tmp_path / "nowhere" / "model.keras")


class TestAFolderThatIsGone:
    @pytest.mark.parametrize("what", ["put", "get", "fetch", "keys"])
    def test_is_out_of_reach_and_not_made_anew(
        self, artifacts: Artifacts, folder: Path, tmp_path: Path, what: str
    ) -> None:
        calls: dict[str, Callable[[], object]] = {
            "put": lambda: artifacts.put(KEY, b""),
            "get": lambda: artifacts.get(KEY, OLD_SHA),
            "fetch": lambda: artifacts.fetch(KEY, OLD_SHA, tmp_path / "target"),
            "keys": artifacts.keys,
        }
        shutil.move(folder, tmp_path / "elsewhere")
        with pytest.raises(OutOfReach, match="the folder itself is gone"):
            calls[what]()
        assert not folder.exists()
        shutil.move(tmp_path / "elsewhere", folder)
        assert artifacts.get(KEY, OLD_SHA) == OLD

    def test_a_place_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OutOfReach, match="KERASWEEP_ARTIFACTS_URL"):
            Artifacts(str(tmp_path / "file" / "artifacts"))


class TestSweepTemporary:
    def test_takes_only_what_is_old_and_temporary(self, artifacts: Artifacts, folder: Path) -> None:
        names = [".model.keras.00ff00ff~", ".gitkeep", "notes~", ".model.keras.00FF00FF~", ".~"]
        for name in names:
            path = folder / "sweeps" / name
            path.write_bytes(b"")
            os.utime(path, (time.time() - 7200, time.time() - 7200))
        fresh = folder / "sweeps" / ".model.keras.12345678~"
        fresh.write_bytes(b"")
        assert artifacts.sweep_temporary(older_than_s=3600) == 1
        assert sorted(path.name for path in (folder / "sweeps").iterdir() if path.is_file()) == sorted(
            [*names[1:], fresh.name]
        )

    def test_has_nothing_to_do_elsewhere(self) -> None:
        assert Artifacts("memory://somewhere").sweep_temporary(older_than_s=0) == 0

"""A trial's files travel with its checkpoints, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kerasweep.jobs.errors import Damaged
from kerasweep.workers.trainer.job.working_folder import fill
from kerasweep.workers.trainer.state import files
from kerasweep.workers.trainer.state.files import TrialFiles

pytestmark = pytest.mark.tf


class Holder:
    """Keeps a file open, as a callback does."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A trial's working folder, and the bundle that it was filled from."""
    bundle, folder = tmp_path / "bundle", tmp_path / "trial"
    (bundle / "data").mkdir(parents=True)
    (bundle / "train.py").write_text("pass")
    (bundle / "data" / "points.csv").write_text("1,2")
    fill(folder, bundle)
    return folder, bundle


def test_only_what_the_trial_wrote_or_changed_is_taken(folders: tuple[Path, Path]) -> None:
    folder, bundle = folders
    own = TrialFiles(folder, bundle)
    assert own.take() == {}
    (folder / "logs").mkdir()
    (folder / "logs" / "log.csv").write_text("epoch")
    (folder / "data" / "points.csv").write_text("3,4")
    found = own.take()
    assert found is not None
    assert {name: content.tobytes() for name, content in found.items()} == {
        "data/points.csv": b"3,4",
        "logs/log.csv": b"epoch",
    }


def test_files_are_put_back_as_they_were(folders: tuple[Path, Path]) -> None:
    folder, bundle = folders
    own = TrialFiles(folder, bundle)
    (folder / "log.csv").write_text("epoch\n0\n")
    saved = own.take()
    assert saved is not None
    holder = Holder(folder / "log.csv")  # which empties it
    (folder / "later.txt").write_text("written since")
    (folder / "data" / "points.csv").write_text("changed since")
    own.restore(saved, [holder])
    holder.file.write("1\n")
    holder.file.close()
    assert (folder / "log.csv").read_text() == "epoch\n0\n1\n"
    assert not (folder / "later.txt").exists()
    assert (folder / "data" / "points.csv").read_text() == "1,2"


def test_large_files_are_left_out(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, bundle = folders
    monkeypatch.setattr(files, "LIMIT_BYTES", 10)
    (folder / "model.keras").write_bytes(bytes(11))
    assert TrialFiles(folder, bundle).take() is None


@pytest.mark.parametrize("name", ["../train.py", "/etc/passwd", "data/../../x"])
def test_nothing_is_written_outside_of_the_folder(folders: tuple[Path, Path], name: str) -> None:
    content: Any = {name: np.zeros(1, np.uint8)}
    with pytest.raises(Damaged, match="must lie in the trial's folder"):
        TrialFiles(*folders).restore(content, [])

"""The gallery's index: its entries, and copies to start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasweep.jobs.errors import DestinationError, InputError
from kerasweep.jobs.gallery_index import copy_entry, find_entry, list_gallery


def test_each_entry_describes_itself_in_a_line() -> None:
    for entry in list_gallery():
        assert entry.description.endswith(".")
        assert {"train.py", "sweep.yaml"} <= set(entry.files)


def test_a_copy_is_the_entry(tmp_path: Path) -> None:
    written = copy_entry("mlp", tmp_path / "mine")
    assert sorted(file.name for file in written) == ["halving.yaml", "predict.py", "sweep.yaml", "train.py"]
    assert "def build_model" in (tmp_path / "mine" / "train.py").read_text(encoding="utf-8")


def test_a_misspelt_entry_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'fashion_mpl'\nDid you mean 'fashion_mlp'\?"):
        find_entry("fashion_mpl")


def test_nothing_is_overwritten_nor_half_written(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("mine", encoding="utf-8")
    with pytest.raises(DestinationError, match=r"already holds train\.py"):
        copy_entry("mlp", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["train.py"]
    assert (tmp_path / "train.py").read_text(encoding="utf-8") == "mine"

"""Fashion-MNIST as Keras' own loader reads it: from its cache, or not at all without a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from kerasweep.jobs.gallery_index import copy_entry

pytestmark = pytest.mark.tf

SHOW = """
from train import load_data
for name, (x, y) in load_data().items():
    print(name, x.shape, x.dtype, x.min(), x.max(), y.shape, sorted(set(y.tolist())))
"""


def load(folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Load the data of a copy of `fashion_mlp` in a child."""
    copy_entry("fashion_mlp", folder)
    command = [sys.executable, "-c", SHOW]
    return subprocess.run(command, capture_output=True, text=True, env=dict(env), cwd=folder, timeout=120)


def test_the_parts_are_split_and_normalised(tmp_path: Path, offline: Mapping[str, str]) -> None:
    child = load(tmp_path, offline)
    classes = list(range(10))
    assert child.stdout.splitlines() == [
        f"train (7000, 28, 28) float32 0.0 1.0 (7000,) {classes}",
        f"validation (5000, 28, 28) float32 0.0 1.0 (5000,) {classes}",
        f"test (500, 28, 28) float32 0.0 1.0 (500,) {classes}",
    ], child.stderr


def test_without_a_network_it_says_so(tmp_path: Path, offline: Mapping[str, str]) -> None:
    child = load(tmp_path / "job", {**offline, "KERAS_HOME": str(tmp_path / "empty")})
    assert child.returncode == 1
    message = child.stderr.splitlines()[-1]
    assert message.startswith(
        "RuntimeError: Fashion-MNIST must be downloaded once, and its files could not be had: "
    )
    assert "train-labels-idx1-ubyte.gz" in message
    assert "Connect to a network and run again" in message


def test_a_broken_download_is_told_apart_from_a_small_set(
    tmp_path: Path, offline: Mapping[str, str], fashion_home: Path
) -> None:
    home = tmp_path / "home" / "datasets" / "fashion-mnist"
    home.mkdir(parents=True)
    for file in (fashion_home / "datasets" / "fashion-mnist").iterdir():
        content = file.read_bytes()
        (home / file.name).write_bytes(
            content[: len(content) // 2] if "train-images" in file.name else content
        )
    child = load(tmp_path / "job", {**offline, "KERAS_HOME": str(tmp_path / "home")})
    assert child.returncode == 1
    assert "EOFError" in child.stderr.splitlines()[-1]
    assert "delete a broken download first" in child.stderr.splitlines()[-1]

"""Fashion-MNIST as Keras' own loader reads it: from its cache, or not at all without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from kerasweep.jobs.gallery_index import copy_entry

pytestmark = pytest.mark.tf

#: Loads the data three times: with all files, with half of one, and without any.
LOADS = """
import json, pathlib, shutil, sys
from train import load_data

def load():
    try:
        return [f"{name} {x.shape} {x.dtype} {x.min()} {x.max()} {y.shape} {sorted(set(y.tolist()))}"
                for name, (x, y) in load_data().items()]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]

files = pathlib.Path(sys.argv[1])
loads = {"whole": load()}
broken = next(files.glob("train-images*"))
broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
loads["broken"] = load()
shutil.rmtree(files)
loads["none"] = load()
print(json.dumps(loads))
"""


@pytest.fixture(scope="module")
def loads(
    tmp_path_factory: pytest.TempPathFactory, offline: Mapping[str, str], fashion_home: Path
) -> Mapping[str, list[str]]:
    """What a copy of `fashion_mlp` loads in a child, or the error."""
    job, home = tmp_path_factory.mktemp("job"), tmp_path_factory.mktemp("home")
    copy_entry("fashion_mlp", job)
    shutil.copytree(fashion_home, home, dirs_exist_ok=True)
    command = [sys.executable, "-c", LOADS, str(home / "datasets" / "fashion-mnist")]
    env = {**offline, "KERAS_HOME": str(home)}
    child = subprocess.run(command, capture_output=True, text=True, env=env, cwd=job, timeout=120)
    assert child.returncode == 0, child.stderr
    found: Mapping[str, list[str]] = json.loads(child.stdout.splitlines()[-1])
    return found


def test_the_parts_are_split_and_normalised(loads: Mapping[str, list[str]]) -> None:
    classes = list(range(10))
    assert loads["whole"] == [
        f"train (7000, 28, 28) float32 0.0 1.0 (7000,) {classes}",
        f"validation (5000, 28, 28) float32 0.0 1.0 (5000,) {classes}",
        f"test (500, 28, 28) float32 0.0 1.0 (500,) {classes}",
    ]


def test_without_a_network_it_says_so(loads: Mapping[str, list[str]]) -> None:
    [message] = loads["none"]
    assert message.startswith(
        "RuntimeError: Fashion-MNIST must be downloaded once, and its files could not be had: "
    )
    assert "train-labels-idx1-ubyte.gz" in message
    assert "Connect to a network and run again" in message


def test_a_broken_download_is_told_apart_from_a_small_set(loads: Mapping[str, list[str]]) -> None:
    [message] = loads["broken"]
    assert "EOFError" in message
    assert "delete a broken download first" in message

"""Switching to the usual larger data set takes one changed value: DATASET."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.gallery_index import copy_entry

pytestmark = [pytest.mark.tf, pytest.mark.thorough]

LARGER = {
    "mlp": ("fashion_mnist", [[28, 28]]),
    "wide_and_deep": ("california", [[6], [5]]),
    "aux_outputs": ("mnist", [[28, 28, 1]]),
    "regularised_cnn": ("cifar10", [[32, 32, 3]]),
    "subclassed": ("mnist", [[28, 28]]),
    "custom_step": ("mnist", [[28, 28]]),
}

BUILD = """
import importlib.util, json, sys, keras
shapes = {}
for entry, (dataset, sizes) in json.loads(sys.argv[1]).items():
    spec = importlib.util.spec_from_file_location(entry, f"{entry}/train.py")
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    train.DATASET = dataset
    model = train.build_model()
    inputs = [keras.ops.zeros((2, *size)) for size in sizes]
    names = ["deep_in", "wide_in"]
    outputs = model(dict(zip(names, inputs)) if len(inputs) > 1 else inputs[0])
    shapes[entry] = [list(output.shape) for output in keras.tree.flatten(outputs)]
print(json.dumps(shapes))
"""


def python(code: str, folder: Path, env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a child, in a folder."""
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, env=dict(env), cwd=folder, timeout=200)


def test_the_models_take_the_larger_sets_shapes(tmp_path: Path, offline: Mapping[str, str]) -> None:
    for entry in LARGER:
        copy_entry(entry, tmp_path / entry)
    child = python(BUILD, tmp_path, offline, json.dumps(LARGER))
    assert child.returncode == 0, child.stderr
    shapes: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    assert shapes == {
        "mlp": [[2, 10]],
        "wide_and_deep": [[2, 1]],
        "aux_outputs": [[2, 10], [2, 10]],
        "regularised_cnn": [[2, 10]],
        "subclassed": [[2, 10]],
        "custom_step": [[2, 10]],
    }


def test_the_demo_reads_fashion_mnist(tmp_path: Path, offline: Mapping[str, str]) -> None:
    copy_entry("mlp", tmp_path)
    code = (
        "import train; train.DATASET = 'fashion_mnist'\n"
        "for name, (x, y) in train.load_data().items(): print(name, x.shape, x.max(), len(y))"
    )
    child = python(code, tmp_path, offline)
    assert child.stdout.splitlines() == [
        "train (7680, 28, 28) 1.0 7680",
        "validation (1920, 28, 28) 1.0 1920",
        "test (2400, 28, 28) 1.0 2400",
    ], child.stderr


def test_california_without_a_network_says_so(tmp_path: Path, offline: Mapping[str, str]) -> None:
    copy_entry("wide_and_deep", tmp_path)
    code = "import train; train.DATASET = 'california'; train.load_data()"
    child = python(code, tmp_path, {**offline, "SCIKIT_LEARN_DATA": str(tmp_path / "empty")})
    assert child.returncode == 1
    message = child.stderr.splitlines()[-1]
    assert message.startswith(
        "RuntimeError: California housing must be downloaded once, and could not be had: "
    )
    assert 'set DATASET = "diabetes", which needs none' in message

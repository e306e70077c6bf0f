"""The scripts beside some jobs use a fetched model with plain Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasweep.jobs.gallery_index import copy_entry

pytestmark = pytest.mark.tf

#: Saves a model as a sweep would, then runs a script as `python SCRIPT ARGUMENT …` does, in the same process.
SCRIPT = """
import runpy, sys, keras, train
keras.utils.set_random_seed(1)
train.build_model().save("model.keras")
del sys.argv[0], sys.modules["train"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COMPARE = """
import numpy as np
train = runpy.run_path("train.py")
images = train["load_data"]()["test"][0]
whole = keras.models.load_model("model.keras").predict(images, verbose=0)
part = keras.models.load_model("main.keras").predict(images, verbose=0)
print("apart", np.abs(whole["main"] - part).max(), len(keras.models.load_model("main.keras").outputs))
"""


def run(folder: Path, program: str, *words: str) -> list[str]:
    """Run a program in a folder; return the lines that it printed."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env=env,
        cwd=folder,
        timeout=200,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


def test_predict_draws_digits_and_counts_what_was_read(tmp_path: Path) -> None:
    copy_entry("mlp", tmp_path)
    lines = run(tmp_path, SCRIPT, "predict.py", "model.keras")
    assert len([line for line in lines if line.startswith("read ") and ", truly " in line]) == 5
    assert len([line for line in lines if "@@" in line]) > 5
    assert lines[-1].endswith(" of 360 test images read correctly")


def test_main_output_is_the_same_model_without_the_auxiliary_one(tmp_path: Path) -> None:
    copy_entry("aux_outputs", tmp_path)
    *_, said, compared = run(tmp_path, SCRIPT + COMPARE, "main_output.py", "model.keras", "main.keras")
    assert said.endswith(": main.keras")
    assert compared == "apart 0.0 1"

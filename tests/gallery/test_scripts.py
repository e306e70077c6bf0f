"""The scripts beside some jobs use a fetched model with plain Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerasweep.jobs.gallery_index import copy_entry

pytestmark = pytest.mark.tf

SAVE = "import keras, train; keras.utils.set_random_seed(1); train.build_model().save('model.keras'); "
COMPARE = """
import keras, numpy as np, train
images = train.load_data()["test"][0]
whole = keras.models.load_model("model.keras").predict(images, verbose=0)
part = keras.models.load_model("main.keras").predict(images, verbose=0)
print("apart", np.abs(whole["main"] - part).max(), len(keras.models.load_model("main.keras").outputs))
"""


def python(folder: Path, *words: str) -> list[str]:
    """Run Python in a folder; return the lines that it printed."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=env, cwd=folder, timeout=200
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


def test_predict_draws_digits_and_counts_what_was_read(tmp_path: Path) -> None:
    copy_entry("mlp", tmp_path)
    python(tmp_path, "-c", SAVE)
    lines = python(tmp_path, "predict.py", "model.keras")
    assert len([line for line in lines if line.startswith("read ") and ", truly " in line]) == 5
    assert len([line for line in lines if "@@" in line]) > 5
    assert lines[-1].endswith(" of 360 test images read correctly")


def test_main_output_is_the_same_model_without_the_auxiliary_one(tmp_path: Path) -> None:
    copy_entry("aux_outputs", tmp_path)
    python(tmp_path, "-c", SAVE)
    assert python(tmp_path, "main_output.py", "model.keras", "main.keras")[-1].endswith(": main.keras")
    assert python(tmp_path, "-c", COMPARE)[-1] == "apart 0.0 1"

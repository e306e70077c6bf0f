"""The content and behaviour of a model file: layers, metrics, predictions, a diagram."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kerasweep.workers.models import look

pytestmark = [
    pytest.mark.tf,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

JOB = """
import numpy as np

def load_data(scale=1.0):
    print("a job may print")
    x = scale * np.arange(20, dtype="float32").reshape(10, 2)
    return {"train": (x, x.sum(axis=1)), "test": (x, x.sum(axis=1))}

def build_model():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job, and a model that adds its two inputs."""
    (tmp_path / "train.py").write_text(JOB, encoding="utf-8")
    inner = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")], name="inner"
    )
    model = keras.Sequential([keras.Input((2,)), inner])
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    model.save(tmp_path / "model.keras")
    return tmp_path


@pytest.fixture
def ask(folder: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a query, and returns the exit code and the answer."""

    def run(command: str, *flags: str) -> tuple[int, dict[str, Any]]:
        capfd.readouterr()
        code = look.main([command, "--model", str(folder / "model.keras"), *flags])
        (line,) = capfd.readouterr().out.splitlines()
        return code, json.loads(line)

    return run


def test_layers_are_listed_with_those_inside(ask: Any) -> None:
    code, reply = ask("layers")
    assert code == 0
    assert [(row["class"], row["depth"], row["parameters"]) for row in reply["layers"]] == [
        ("Sequential", 0, 3),
        ("Dense", 1, 3),
    ]
    assert reply["layers"][1]["output_shape"] == [None, 1]
    assert (reply["parameters"], reply["trainable_parameters"]) == (3, 3)


def test_evaluate_gives_the_metrics_of_a_part(ask: Any, folder: Path) -> None:
    code, reply = ask("evaluate", "--job", str(folder / "train.py"), "--data", "test")
    assert code == 0
    assert reply == {"data": "test", "metrics": {"loss": 0.0, "mae": 0.0}}
    assert ask("evaluate", "--job", str(folder / "train.py"))[1] == reply, "the default"
    (folder / "train.py").write_text(JOB.replace('"test"', '"validation"'), encoding="utf-8")
    assert ask("evaluate", "--job", str(folder / "train.py"))[1] == reply | {"data": "validation"}


def test_load_data_gets_its_arguments(ask: Any, folder: Path) -> None:
    flags = ["--job", str(folder / "train.py"), "--limit", "2", "--arguments"]
    told = {"data": "test", "rows": 2, "outputs": {"output_0": [[1.0], [5.0]]}}
    assert ask("predict", *flags, "{}")[1] == told
    assert ask("predict", *flags, '{"scale": 2.0}')[1]["outputs"] == {"output_0": [[2.0], [10.0]]}


def test_a_part_that_is_not_there_lists_those_that_are(ask: Any, folder: Path) -> None:
    code, reply = ask("evaluate", "--job", str(folder / "train.py"), "--data", "validation")
    assert code == 2
    assert reply["error"].startswith(
        "load_data must return the part asked for, got train, test, not 'validation'"
    )


def test_predict_reads_a_file(ask: Any, folder: Path) -> None:
    np.save(folder / "in.npy", np.array([[1.0, 2.0], [np.nan, 0.0]]))
    code, reply = ask("predict", "--input", str(folder / "in.npy"))
    assert code == 0
    assert reply["outputs"] == {"output_0": [[3.0], ["nan"]]}


def test_what_load_data_raises_is_told(ask: Any, folder: Path) -> None:
    code, reply = ask("evaluate", "--job", str(folder / "train.py"), "--arguments", '{"size": 1}')
    assert code == 2
    assert "got TypeError: load_data() got an unexpected keyword argument 'size'" in reply["error"]


def test_a_diagram_needs_pydot(ask: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.src.utils.model_visualization.pydot", None)
    code, reply = ask("diagram", "--dest", str(folder / "model.png"))
    assert code == 2
    assert "pip install pydot" in reply["error"]
    code, reply = ask("diagram", "--dest", str(folder / "model.txt"))
    assert (code, reply["error"].splitlines()[1]) == (2, "Use one of these suffixes")


def test_a_stream_is_taken_batch_by_batch() -> None:
    tf = sys.modules["tensorflow"]
    batches = tf.data.Dataset.from_tensor_slices((np.arange(10.0), np.arange(10.0))).batch(4)
    taken = look.take_rows(look.Stream(batches), 6)
    np.testing.assert_array_equal(taken, np.arange(6.0))
    assert len(look.take_rows(look.Stream(batches), None)) == 10

"""Exports: written, read back by their own runtimes, compared, and never left behind when they are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kerasweep.jobs.errors import DestinationError, InputError
from kerasweep.workers.models import export, runtimes
from kerasweep.workers.models.export import convert, deviation
from kerasweep.workers.models.model_file import load_model_file
from kerasweep.workers.models.runtimes import FORMATS, flatten_outputs, match_outputs
from kerasweep.workers.models.samples import arrange, make_samples, read_samples

pytestmark = [
    pytest.mark.tf,
    # Keras 3.15 requests copies of TensorFlow's variables in NumPy's old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

JOB = """
import keras

print("a job may print")

@keras.saving.register_keras_serializable(package="export_test")
class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs

@keras.saving.register_keras_serializable(package="export_test")
class Net(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)
        self.twice = Twice()

    def call(self, inputs):
        return self.twice(self.dense(inputs))

    def get_config(self):
        return {**super().get_config(), "units": self.units}

def load_data():
    return {}

def build_model():
    model = Net()
    model(keras.Input((4,)))
    return model

if __name__ == "__main__":
    build_model().save("model.keras")
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model with two named inputs and two named outputs, of which one grows beyond 1."""
    keras.utils.set_random_seed(3)
    wide, deep = keras.Input((2,), name="wide"), keras.Input((4, 4, 1), name="deep")
    seen = keras.layers.Conv2D(3, 3, use_bias=False)(deep)
    seen = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(seen))
    joined = keras.layers.Concatenate()([wide, keras.layers.Flatten()(keras.layers.Dropout(0.5)(seen))])
    outputs = {
        "zebra": keras.layers.Dense(3, activation="softmax", name="zebra")(joined),
        "ant": keras.layers.Rescaling(100.0, name="ant")(keras.layers.Dense(1)(joined)),
    }
    keras.Model({"wide": wide, "deep": deep}, outputs).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.fixture(scope="module")
def own_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job whose model has custom classes, and that model; created in another process."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "train.py").write_text(JOB, encoding="utf-8")
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, capture_output=True, timeout=120)
    return folder


def wrong_by(amount: float) -> runtimes.ModelFormat:
    """A format whose runtime computes something else."""

    def run(path: Path, model: Any, samples: Any) -> Any:
        return {name: array + amount for name, array in flatten_outputs(model(samples)).items()}

    return replace(FORMATS["keras"], run=run)


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_runs_as_the_model_does(format: str, model_file: Path, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
    made = convert(model_file, format, tmp_path / "out")
    assert made.max_abs_deviation <= made.tolerance
    assert made.samples == 8
    assert {"python", "keras", "numpy"} <= set(made.versions)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        ["export.json", FORMATS[format].file]
    )
    kept = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert kept["format"] == format
    assert kept["max_abs_deviation"] == made.max_abs_deviation
    assert kept["files"] == list(made.files)


@pytest.mark.parametrize("format", ["keras", "weights.h5", "savedmodel", "tflite", "onnx"])
def test_a_model_with_classes_of_its_own(format: str, own_classes: Path, tmp_path: Path) -> None:
    if format == "onnx":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
    made = convert(own_classes / "model.keras", format, tmp_path, job=own_classes / "train.py")
    assert made.max_abs_deviation <= made.tolerance


def test_without_its_job_the_remedy_is_to_give_it(own_classes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the job's file"):
        convert(own_classes / "model.keras", "keras", tmp_path)


def test_what_a_format_cannot_hold_is_the_users_to_mend(own_classes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="h5 must hold the whole model") as caught:
        convert(own_classes / "model.keras", "h5", tmp_path, job=own_classes / "train.py")
    assert "weights.h5 holds every model" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_cut_to_its_main_output(model_file: Path, tmp_path: Path) -> None:
    convert(model_file, "keras", tmp_path / "ant", outputs=["ant"])
    whole, part = load_model_file(model_file), load_model_file(tmp_path / "ant" / "model.keras")
    samples = make_samples(whole)
    np.testing.assert_array_equal(part(samples).numpy(), whole(samples)["ant"].numpy())
    with pytest.raises(InputError, match="ant, zebra, got 'bee'"):
        convert(model_file, "keras", tmp_path / "other", outputs=["bee"])


def test_a_deviation_above_the_tolerance_is_an_error_and_leaves_nothing(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FORMATS", {"keras": wrong_by(0.5)})
    with pytest.raises(InputError, match=r"within .*, got them 0\.5 apart"):
        convert(model_file, "keras", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert convert(model_file, "keras", tmp_path / "out", tolerance=0.6).tolerance == 0.6


def test_the_default_tolerance_grows_with_the_outputs(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "FORMATS", {"keras": replace(wrong_by(1e-4), tolerance=1e-5)})
    made = convert(model_file, "keras", tmp_path / "out")
    assert 1e-4 < made.tolerance < 1e-2


def test_nothing_is_overwritten_unless_told(model_file: Path, tmp_path: Path) -> None:
    convert(model_file, "savedmodel", tmp_path / "out")
    with pytest.raises(DestinationError, match="never overwrites"):
        convert(model_file, "savedmodel", tmp_path / "out")
    assert convert(model_file, "savedmodel", tmp_path / "out", force=True).files == ("savedmodel/",)


def test_a_missing_package_is_named_with_its_extra(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r"needs the package 'tf2onnx'.*\n.*kerasweep\[worker,export\]"):
        convert(model_file, "onnx", tmp_path)


def test_nan_beside_a_number_is_infinitely_far() -> None:
    one, nan = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    assert deviation({"y": one}, {"y": one + 0.25}) == 0.25
    assert deviation({"y": one}, {"y": nan}) == np.inf
    assert deviation({"y": nan}, {"y": nan}) == 0.0
    assert deviation({"y": np.array([np.inf])}, {"y": np.array([np.inf])}) == 0.0
    with pytest.raises(InputError, match="keep the outputs' shapes"):
        deviation({"y": one}, {"y": one[:1]})


def test_outputs_are_matched_by_name_or_by_number() -> None:
    arrays = [np.array(number) for number in range(12)]
    named = {"b": arrays[0], "a": arrays[1]}
    assert list(match_outputs(named, ["a", "b"]).values()) == [arrays[1], arrays[0]]
    shuffled = {f"output_{number}": arrays[number] for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9, 11)}
    assert list(match_outputs(shuffled, [f"y{number}" for number in range(12)]).values()) == arrays


def test_made_up_samples_are_the_same_each_time_and_fit_the_model() -> None:
    words = keras.Input((None,), dtype="int32", name="words")
    model = keras.Model(words, keras.layers.Embedding(2, 3)(words))
    first, second = make_samples(model), make_samples(model)
    np.testing.assert_array_equal(first, second)
    assert (first.dtype, first.shape) == (np.int32, (8, 16))
    assert set(np.unique(first)) == {0, 1}


def test_given_samples_are_arranged_for_the_model(model_file: Path, tmp_path: Path) -> None:
    model = load_model_file(model_file)
    np.savez(tmp_path / "in.npz", deep=np.ones((2, 16)), wide=np.ones((2, 2)))
    arranged = arrange(model, read_samples(tmp_path / "in.npz"))
    assert {name: array.shape for name, array in arranged.items()} == {"wide": (2, 2), "deep": (2, 4, 4, 1)}
    with pytest.raises(InputError, match="must all be given, got wide\nAdd deep"):
        arrange(model, {"wide": np.ones((2, 2))})
    with pytest.raises(InputError, match=r"'wide' must have the shape \('rows', 2\), got \(2, 3\)"):
        arrange(model, {"wide": np.ones((2, 3)), "deep": np.ones((2, 16))})
    with pytest.raises(InputError, match="got a single array"):
        arrange(model, np.ones((2, 2)))


def test_a_wrong_value_in_a_tables_first_row_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("1,x\n3,4\n")
    with pytest.raises(InputError, match="could not convert string 'x'"):
        read_samples(tmp_path / "in.csv")


def test_a_table_may_have_a_header(tmp_path: Path) -> None:
    for text in ("a,b\n1,2\n3,4\n", "1,2\n3,4\n"):
        (tmp_path / "in.csv").write_text(text, encoding="utf-8")
        np.testing.assert_array_equal(read_samples(tmp_path / "in.csv"), [[1.0, 2.0], [3.0, 4.0]])
    (tmp_path / "in.csv").write_text("1,2\n3,x\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"valid \.csv file of numbers"):
        read_samples(tmp_path / "in.csv")
    with pytest.raises(InputError, match="must be a file that exists"):
        read_samples(tmp_path / "none.npy")
    (tmp_path / "in.txt").write_text("1 2\n", encoding="utf-8")
    with pytest.raises(InputError, match="must be a file of type"):
        read_samples(tmp_path / "in.txt")


def test_as_a_child_it_prints_one_json_line(own_classes: Path, tmp_path: Path) -> None:
    def run(*flags: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "kerasweep.workers.models.export", "--dest", str(tmp_path), *flags]
        child = subprocess.run(command, capture_output=True, text=True, timeout=120)
        (line,) = child.stdout.splitlines()
        return child.returncode, json.loads(line)

    model, job = str(own_classes / "model.keras"), str(own_classes / "train.py")
    code, reply = run("--model", model, "--format", "keras", "--job", job)
    assert (code, reply["files"]) == (0, ["model.keras"])
    code, reply = run("--model", model, "--format", "kera", "--job", job)
    assert code == 2
    assert reply["error"].endswith("got 'kera'\ndid you mean 'keras'?")

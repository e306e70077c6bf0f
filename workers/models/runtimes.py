"""The export formats: how each is written, and how its own runtime reads and runs it."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasweep.jobs.errors import InputError
from kerasweep.workers.models.samples import named_leaves

Array = NDArray[Any]


@dataclass(frozen=True)
class ModelFormat:
    """An export format.

    Args:
        file: the name of its file or folder.
        write: takes the model and the path.
        run: takes the path, the model and the samples; returns the outputs by name, or nested as the model's.
        tolerance: the largest deviation for outputs up to 1 in size; it scales with larger ones.
        packages: distributions whose versions matter.
    """

    file: str
    write: Callable[[keras.Model, Path], None]
    run: Callable[[Path, keras.Model, Any], Any]
    tolerance: float
    packages: tuple[str, ...] = ()


def flatten_outputs(outputs: Any) -> dict[str, Array]:
    """Return a model's outputs as arrays by name, in Keras' order; unnamed ones are called `output_0`…."""
    pairs = keras.tree.flatten_with_path(outputs)
    names = [
        path[-1] if path and isinstance(path[-1], str) else f"output_{n}" for n, (path, _) in enumerate(pairs)
    ]
    return {name: np.asarray(_plain(leaf)) for name, (_, leaf) in zip(names, pairs, strict=True)}


def match_outputs(found: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
    """Return a runtime's outputs under the model's names: by name if it kept them, else by order."""
    if set(found) == set(names):
        return {name: found[name] for name in names}
    ordered = sorted(found, key=_number) if all(map(_has_number, found)) else list(found)
    return {name: found[key] for name, key in zip(names, ordered, strict=True)}


def _plain(tensor: Any) -> Any:
    return tensor.numpy() if hasattr(tensor, "numpy") else tensor


def _has_number(name: str) -> bool:
    return re.search(r"\d+$", name) is not None


def _number(name: str) -> int:
    return int(name[len(name.rstrip("0123456789")) :])


def _need(module: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise InputError(
            f"{purpose} needs the package {module!r}, which is not installed here\n"
            "pip install 'kerasweep[worker,export]'"
        ) from exc


def _write_keras(model: keras.Model, path: Path) -> None:
    model.save(path)


def _run_keras(path: Path, model: keras.Model, samples: Any) -> Any:
    # Its code, such as a Lambda's, was written by this process.
    return keras.models.load_model(path, compile=False, safe_mode=False)(samples, training=False)


def _write_weights(model: keras.Model, path: Path) -> None:
    model.save_weights(path)


def _run_weights(path: Path, model: keras.Model, samples: Any) -> Any:
    # Start from other weights, so that only what is read back counts.
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    model.load_weights(path)
    return model(samples, training=False)


def _write_saved_model(model: keras.Model, path: Path) -> None:
    model.export(path, format="tf_saved_model", verbose=False)


def _run_saved_model(path: Path, model: keras.Model, samples: Any) -> Any:
    loaded = importlib.import_module("tensorflow").saved_model.load(str(path))  # keeps the variables alive
    return loaded.serve(samples)


def _write_tflite(model: keras.Model, path: Path) -> None:
    model.export(path, format="litert", verbose=False)


def _run_tflite(path: Path, model: keras.Model, samples: Any) -> Any:
    try:
        runner = _litert(path).get_signature_runner()
    except (ImportError, RuntimeError):
        # TensorFlow's own interpreter also runs operations that LiteRT delegates to TensorFlow.
        runner = _tensorflow_lite(path).get_signature_runner()
    return runner(**_feed(list(runner.get_input_details()), samples))


def _litert(path: Path) -> Any:
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


def _tensorflow_lite(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow warns that its interpreter will move to ai-edge-litert
        return importlib.import_module("tensorflow").lite.Interpreter(str(path))


def _write_onnx(model: keras.Model, path: Path) -> None:
    _need("tf2onnx", "the export to onnx")
    model.export(path, format="onnx", verbose=False)


def _run_onnx(path: Path, model: keras.Model, samples: Any) -> Any:
    runtime = _need("onnxruntime", "the check of an onnx file")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = _feed([node.name for node in session.get_inputs()], samples)
    found = session.run(None, feed)
    return dict(zip([node.name for node in session.get_outputs()], found, strict=True))


def _feed(wanted: list[str], samples: Any) -> dict[str, Array]:
    given = named_leaves(samples)
    if set(wanted) == set(given):
        return given
    return dict(zip(wanted, given.values(), strict=True))


FORMATS: Mapping[str, ModelFormat] = {
    "keras": ModelFormat("model.keras", _write_keras, _run_keras, 1e-6),
    "weights.h5": ModelFormat("model.weights.h5", _write_weights, _run_weights, 1e-6, ("h5py",)),
    "h5": ModelFormat("model.h5", _write_keras, _run_keras, 1e-6, ("h5py",)),
    "savedmodel": ModelFormat("savedmodel", _write_saved_model, _run_saved_model, 1e-5),
    "tflite": ModelFormat("model.tflite", _write_tflite, _run_tflite, 1e-4, ("ai-edge-litert",)),
    "onnx": ModelFormat("model.onnx", _write_onnx, _run_onnx, 1e-4, ("tf2onnx", "onnx", "onnxruntime")),
}

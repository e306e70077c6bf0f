"""Inspects a model file and runs it on its job's data; prints one JSON line.

python -m kerasweep.workers.models.look layers   --model model.keras
python -m kerasweep.workers.models.look evaluate --model model.keras --job train.py --data test
python -m kerasweep.workers.models.look predict  --model model.keras --input images.npy --limit 5
python -m kerasweep.workers.models.look diagram  --model model.keras --dest model.png
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasweep.jobs.errors import InputError
from kerasweep.workers.models.answer import answer, first_line
from kerasweep.workers.models.model_file import job_classes, open_model
from kerasweep.workers.models.rebuilding import Recipe
from kerasweep.workers.models.runtimes import flatten_outputs
from kerasweep.workers.models.samples import arrange, read_samples
from kerasweep.workers.trainer.job.data import Arrays, Stream, read_data
from kerasweep.workers.trainer.job.source import JobSource

PARTS = ("train", "validation", "test")


def list_layers(model: keras.Model) -> dict[str, Any]:
    """Return the model's layers, nested ones after the layer that contains them.

    Returns:
        `{"model", "layers": [{"name", "class", "depth", "output_shape", "parameters", "trainable"}],
            "parameters", "trainable_parameters"}`; a shape is a list, or None if only a call would reveal it.
    """
    return {
        "model": type(model).__name__,
        "layers": list(_rows(model.layers, 0)),
        "parameters": int(model.count_params()),
        "trainable_parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
    }


def evaluate(model: keras.Model, part: Arrays | Stream) -> dict[str, float]:
    """Return the model's loss and metrics on one part of its job's data.

    Raises:
        InputError: the model file has no loss.
    """
    if not model.compiled:
        raise InputError(
            "a model must have a loss to be evaluated, got one that was saved without compile\n"
            "Compile it in build_model"
        )
    if isinstance(part, Stream):
        found = model.evaluate(part.dataset, verbose=0, return_dict=True)
    else:
        found = model.evaluate(part.x, part.y, sample_weight=part.weight, verbose=0, return_dict=True)
    return {name: float(value) for name, value in found.items()}


def predict(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Return the model's outputs as lists by output name, or one list for a single output."""
    outputs = flatten_outputs(model.predict(inputs, verbose=0))
    plain = {name: _finite(array) for name, array in outputs.items()}
    return {"rows": len(next(iter(outputs.values()))), "outputs": plain}


def load_part(
    source: JobSource, part: str | None, arguments: Mapping[str, Any]
) -> tuple[str, Arrays | Stream]:
    """Return one part of what the job's `load_data` returns for these arguments, and its name.

    Args:
        source: the job.
        part: one of `PARTS`; None for the test data, or the validation data of a job without any.
        arguments: the trial's, for `load_data`.

    Raises:
        InputError: `load_data` raises, or returns no such part.
    """
    try:
        data = read_data(source.call("load_data", arguments))
    except Exception as exc:
        raise InputError(
            f"load_data must return the job's data, got {type(exc).__name__}: {first_line(exc)}\n"
            "Fix the job, then try again"
        ) from exc
    part = part or ("validation" if data.test is None else "test")
    found: Arrays | Stream | None = getattr(data, part)
    if found is None:
        given = [name for name in PARTS if getattr(data, name) is not None]
        raise InputError(
            f"load_data must return the part asked for, got {', '.join(given)}, not {part!r}\n"
            f"Ask for one of these (--data {given[-1]}), or let load_data return {part!r} too"
        )
    return part, found


def take_rows(part: Arrays | Stream, limit: int | None) -> Any:
    """Return the inputs of a part's first rows, or all without a limit."""
    if isinstance(part, Arrays):
        return keras.tree.map_structure(lambda array: array[:limit], part.x)
    batches: list[Any] = []
    rows = 0
    for batch in part.dataset:
        x = keras.tree.map_structure(np.asarray, keras.utils.unpack_x_y_sample_weight(tuple(batch))[0])
        batches.append(x)
        rows += len(keras.tree.flatten(x)[0])
        if limit is not None and rows >= limit:
            break
    joined = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *batches)
    return keras.tree.map_structure(lambda array: array[:limit], joined)


def draw_diagram(model: keras.Model, dest: Path) -> dict[str, str]:
    """Write the model's diagram to a .png, .svg or .pdf file.

    Raises:
        InputError: pydot or graphviz is not installed, or the file's suffix is not that of a picture.
    """
    if dest.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(
            f"a diagram is a .png, .svg or .pdf file, got {dest.name!r}\nUse one of these suffixes"
        )
    try:
        keras.utils.plot_model(model, to_file=str(dest), show_shapes=True, show_layer_names=True)
    except ImportError as exc:
        raise InputError(
            f"a diagram needs the package pydot and graphviz's program dot, got: {first_line(exc)}\n"
            "pip install pydot, and install graphviz with the system's packages (apt-get install graphviz)"
        ) from exc
    return {"file": str(dest)}


def _rows(layers: Sequence[keras.Layer], depth: int) -> Sequence[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for layer in layers:
        rows.append(
            {
                "name": layer.name,
                "class": type(layer).__name__,
                "depth": depth,
                "output_shape": _output_shape(layer),
                "parameters": int(layer.count_params()) if layer.built else 0,
                "trainable": bool(layer.trainable),
            }
        )
        rows.extend(_rows(_inner(layer), depth + 1))
    return rows


def _inner(layer: keras.Layer) -> list[keras.Layer]:
    # A model lists its layers; what one of the job's own layers contains is only found this way.
    return list(getattr(layer, "layers", None) or layer._flatten_layers(include_self=False, recursive=False))


def _output_shape(layer: keras.Layer) -> Any:
    try:
        shapes = keras.tree.map_structure(lambda tensor: list(tensor.shape), layer.output)
    except (AttributeError, ValueError):
        return None
    return shapes


def _finite(array: Any) -> Any:
    """Return an array as nested lists; JSON has no NaN or infinity, so these become text."""
    if not np.issubdtype(array.dtype, np.floating) or np.isfinite(array).all():
        return array.tolist()
    return [_finite(row) for row in array] if array.ndim else str(array.item())


def _show_layers(given: argparse.Namespace) -> Mapping[str, Any]:
    with job_classes(given.job) as source:
        return list_layers(open_model(given.model, source, given.recipe))


def _evaluate(given: argparse.Namespace) -> Mapping[str, Any]:
    with job_classes(given.job) as source:
        model = open_model(given.model, source, given.recipe, compiled=True)
        name, part = load_part(_required(source), given.data, given.arguments)
        return {"data": name, "metrics": evaluate(model, part)}


def _predict(given: argparse.Namespace) -> Mapping[str, Any]:
    with job_classes(given.job) as source:
        model = open_model(given.model, source, given.recipe)
        if given.input is None:
            name, part = load_part(_required(source), given.data, given.arguments)
            return {"data": name, **predict(model, take_rows(part, given.limit))}
        inputs = arrange(model, read_samples(given.input))
        return predict(model, keras.tree.map_structure(lambda array: array[: given.limit], inputs))


def _draw_diagram(given: argparse.Namespace) -> Mapping[str, Any]:
    with job_classes(given.job) as source:
        return draw_diagram(open_model(given.model, source, given.recipe), given.dest)


def _required(source: JobSource | None) -> JobSource:
    if source is None:
        raise InputError(
            "the job's data needs the job's file, got none\nGive --job train.py, or --input for predict"
        )
    return source


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"must be JSON, got {text!r}") from exc
    if not isinstance(arguments, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, got {text!r}")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Inspect according to the command line; print one JSON line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m kerasweep.workers.models.look")
    commands = parser.add_subparsers(required=True)
    works: dict[str, Callable[[argparse.Namespace], Mapping[str, Any]]] = {
        "layers": _show_layers,
        "evaluate": _evaluate,
        "predict": _predict,
        "diagram": _draw_diagram,
    }
    for name, work in works.items():
        command = commands.add_parser(name)
        command.set_defaults(work=work)
        command.add_argument("--model", type=Path, required=True)
        command.add_argument("--job", type=Path, help="the job's file")
        command.add_argument(
            "--recipe", type=Recipe.from_json, help="the trial's arguments to the job, as JSON"
        )
        if name in ("evaluate", "predict"):
            command.add_argument("--data", choices=PARTS, help="by default test, or validation without any")
            command.add_argument("--arguments", type=_arguments, default={}, help="of load_data, as JSON")
        if name == "predict":
            command.add_argument("--input", type=Path, help=".npy, .npz or .csv, instead of --data")
            command.add_argument("--limit", type=int, help="rows")
        if name == "diagram":
            command.add_argument("--dest", type=Path, required=True)
    given = parser.parse_args(arguments)
    return answer(lambda: given.work(given))


if __name__ == "__main__":
    sys.exit(main())

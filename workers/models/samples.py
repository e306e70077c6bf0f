"""Inputs for running a model: random ones for its input specification, or read from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from kerasweep.jobs.errors import InputError
from kerasweep.workers.models.answer import first_line
from kerasweep.workers.models.model_file import input_structure

Array = NDArray[Any]

_OPEN_SIZE = 16  # for an axis of any length; the minimum for the usual strides and poolings


def make_samples(model: keras.Model, rows: int = 8, seed: int = 0) -> Any:
    """Return random inputs, nested as the model takes them.

    Args:
        model: a built model.
        rows: the number of rows.
        seed: the same seed gives the same inputs.

    Returns:
        Floats from the standard normal distribution; zeros and ones for integers, which are valid for any
            embedding; each of shape (rows, …) in the model's dtype.
    """
    rng = np.random.default_rng(seed)
    return keras.tree.map_structure(lambda spec: _draw(spec, rows, rng), input_structure(model))


def arrange(model: keras.Model, arrays: Array | Mapping[str, Array]) -> Any:
    """Nest given inputs as the model takes them, in its dtypes; rows of flat values are reshaped.

    Args:
        model: a built model.
        arrays: one array, or one for each input by name.

    Raises:
        InputError: names or shapes do not match the model's.
    """
    structure = input_structure(model)
    specs = dict(_named(structure))
    if not isinstance(arrays, Mapping):
        if len(specs) > 1:
            raise InputError(
                f"this model takes the inputs {', '.join(specs)}, got a single array\n"
                "Give an .npz file with an array under each of these names"
            )
        arrays = dict.fromkeys(specs, arrays)
    elif len(specs) == 1 and len(arrays) == 1:
        arrays = dict(zip(specs, arrays.values(), strict=True))
    missing = [name for name in specs if name not in arrays]
    if missing:
        raise InputError(
            f"the model's inputs must all be given, got {', '.join(arrays) or 'none'}\n"
            f"Add {', '.join(missing)}"
        )
    flat = [_fit(name, arrays[name], spec) for name, spec in specs.items()]
    return keras.tree.pack_sequence_as(structure, flat)


def read_samples(path: Path) -> Array | dict[str, Array]:
    """Return the inputs in a file: `.npy` (one array), `.npz` (by name), `.csv` (with or without a header).

    Raises:
        InputError: no such file, or not one of these.
    """
    readers: dict[str, Callable[[Path], Array | dict[str, Array]]] = {
        ".npy": _read_npy,
        ".npz": _read_npz,
        ".csv": _read_csv,
    }
    if not path.exists():
        raise InputError(f"inputs must be a file that exists, got {str(path)!r}\nCheck the path")
    if path.suffix not in readers or not path.is_file():
        raise InputError(
            f"inputs must be a file of type {', '.join(readers)}, got {str(path)!r}\n"
            "Save them with numpy.save or savez"
        )
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as exc:
        raise InputError(
            f"inputs must be a valid {path.suffix} file of numbers, got {first_line(exc)} ({path})\n"
            "Write it again"
        ) from exc


def named_leaves(structure: Any) -> dict[str, Any]:
    """Return a structure's leaves by name, in Keras' order: a dict's key, or else the leaf's own name."""
    return dict(_named(structure))


def _named(structure: Any) -> list[tuple[str, Any]]:
    pairs = []
    for number, (path, leaf) in enumerate(keras.tree.flatten_with_path(structure)):
        key = path[-1] if path and isinstance(path[-1], str) else getattr(leaf, "name", None)
        pairs.append((key or f"input_{number}", leaf))
    return pairs


def _draw(spec: Any, rows: int, rng: np.random.Generator) -> Array:
    shape = [rows, *(_OPEN_SIZE if size is None else size for size in spec.shape[1:])]
    dtype = keras.backend.standardize_dtype(spec.dtype)
    if "int" in dtype or dtype == "bool":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _fit(name: str, array: Array, spec: Any) -> Array:
    wanted = tuple(spec.shape[1:])
    if array.ndim != len(wanted) + 1 and None not in wanted and array[:1].size == np.prod(wanted, dtype=int):
        array = array.reshape(len(array), *wanted)
    fits = array.ndim == len(wanted) + 1 and all(
        w in (None, g) for w, g in zip(wanted, array.shape[1:], strict=True)
    )
    if not fits:
        raise InputError(
            f"the input {name!r} must have the shape {('rows', *wanted)}, got {array.shape}\n"
            "Reshape the array"
        )
    return array.astype(keras.backend.standardize_dtype(spec.dtype))


def _read_npy(path: Path) -> Array:
    array: Array = np.load(path, allow_pickle=False)
    return array


def _read_npz(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _read_csv(path: Path) -> Array:
    with path.open(encoding="utf-8") as lines:
        header = not any(map(_is_number, lines.readline().split(",")))  # a malformed number is not a heading
    return np.loadtxt(path, delimiter=",", skiprows=int(header), ndmin=2)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

"""A trial's whole training state after an epoch, in one file.

The file is an uncompressed zip of `manifest.json` and one `.npy` for each array: readable with `numpy.load`,
no pickle. Types that NumPy does not know, such as bfloat16, are stored as integers of their size, with their
name in the manifest; records as bytes along one more axis, with their fields in the manifest.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras.src.backend import name_scope
from numpy.typing import NDArray

from kerasweep.jobs.errors import Damaged
from kerasweep.workers.trainer.state.digest import optimizers_of, plain_path, replicas_of

FORMAT = 3
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Args:
        manifest: everything but the arrays, as JSON.
        arrays: referred to by number in the manifest.
    """

    manifest: dict[str, Any]
    arrays: list[NDArray[Any]] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        buffer = io.BytesIO()
        dtypes = [_described(array.dtype) for array in self.arrays]
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
            file.writestr("manifest.json", json.dumps({**self.manifest, "format": FORMAT, "dtypes": dtypes}))
            for number, array in enumerate(self.arrays):
                with file.open(f"{number}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, _native(array), allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Read a file.

        Raises:
            Damaged: it is not a checkpoint, or its format is not supported by this version.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                manifest = json.loads(file.read("manifest.json"))
                if manifest["format"] != FORMAT:
                    raise Damaged(f"checkpoint format must be {FORMAT}, got {manifest['format']}")
                arrays = [_read(file, number, name) for number, name in enumerate(manifest["dtypes"])]
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, AttributeError) as exc:
            raise Damaged(f"not an intact checkpoint: {exc}") from exc
        return cls(manifest, arrays)


def take_variables(model: keras.Model) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Return the names and values of all variables of the model and its optimizers."""
    variables = list(model.variables)
    places = {id(variable): number for number, variable in enumerate(variables)}
    trained = []
    for optimizer in optimizers_of(model):
        variables.extend(optimizer.variables)
        trained.append([places.get(id(variable)) for variable in _trained_by(optimizer)])
    names = {"variables": [_name(variable) for variable in variables], "trained": trained}
    # A copy: on the CPU, `numpy()` may share the memory that the next step overwrites.
    return names, [np.array(one.numpy()) for variable in variables for one in replicas_of(variable)]


def match_variables(
    model: keras.Model, names: dict[str, Any], arrays: list[NDArray[Any]]
) -> list[tuple[Any, NDArray[Any]]]:
    """Pair every variable of a model and its optimizers with its value in a checkpoint; assign nothing.

    Args:
        model: built and compiled as the one that was saved.
        names: as returned by `take_variables`.
        arrays: in the same order; further ones are ignored.

    Returns:
        Variables, one for each replica, and their values.

    Raises:
        Damaged: they belong to another model.
    """
    variables = list(model.variables)
    optimizers = optimizers_of(model)
    if len(optimizers) != len(names["trained"]):
        raise Damaged(f"the checkpoint has {len(names['trained'])} optimizers, the model {len(optimizers)}")
    targets = list(variables)
    for optimizer, trained in zip(optimizers, names["trained"], strict=True):
        if trained and not optimizer.built:
            _build_as_fit(optimizer, [variables[place] for place in trained])
        targets.extend(optimizer.variables)
    found = [_name(variable) for variable in targets]
    if found != names["variables"]:
        raise Damaged(_difference(names["variables"], found))
    replicas = [(variable, one) for variable in targets for one in replicas_of(variable)]
    if len(arrays) < len(replicas):
        raise Damaged(f"the checkpoint must hold {len(replicas)} variables, got {len(arrays)} arrays")
    return [
        (one, _fitting(variable, array)) for (variable, one), array in zip(replicas, arrays, strict=False)
    ]


def _fitting(variable: Any, array: NDArray[Any]) -> NDArray[Any]:
    wanted = (tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype))
    if (array.shape, array.dtype.name) != wanted:
        raise Damaged(
            f"the checkpoint holds {array.dtype.name} {array.shape} for {plain_path(variable)}, "
            f"which is {wanted[1]} {wanted[0]}"
        )
    return array


def build_optimizer(model: keras.Model) -> None:
    """Build the compiled optimizer, so that its variables exist and can be saved and restored.

    A custom `train_step` builds the optimizers that it uses, for the variables that it gives them.
    """
    optimizer = model.optimizer
    if optimizer is not None and not optimizer.built and not has_own_step(model):
        _build_as_fit(optimizer, model.trainable_variables)


def reset_compiled_metrics(model: keras.Model) -> None:
    """Reset the metrics given to `compile`, as at the start of an epoch.

    `fit` does so only once they are built, and those created at import have the state of the checkpoint.
    """
    compiled = getattr(model, "_compile_metrics", None)
    given = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    for metric in keras.tree.flatten(given):
        if isinstance(metric, keras.Metric):
            metric.reset_state()


def _build_as_fit(optimizer: Any, variables: list[Any]) -> None:
    """Build an optimizer under the name under which its first step would: paths show it."""
    with name_scope(optimizer.name, caller=optimizer):
        optimizer.build(variables)


def has_own_step(model: keras.Model) -> bool:
    """Tell whether a model is trained by a `train_step` of the job's own."""
    return type(model).train_step is not keras.Model.train_step or "train_step" in vars(model)


def _trained_by(optimizer: Any) -> list[Any]:
    return list(getattr(optimizer, "_trainable_variables", []))


def _name(variable: Any) -> str:
    copies = len(replicas_of(variable))
    shape = f"{tuple(variable.shape)} x {copies}" if copies > 1 else f"{tuple(variable.shape)}"
    return f"{plain_path(variable)} {keras.backend.standardize_dtype(variable.dtype)} {shape}"


def _difference(expected: list[str], found: list[str]) -> str:
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return f"the checkpoint belongs to another model: it has {one!r} where the model has {other!r}"
    return (
        f"the checkpoint belongs to another model: {len(expected)} variables where the model has {len(found)}"
    )


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return the content of an array in a type that a `.npy` file holds exactly."""
    if not _is_described(array.dtype):
        return array.view(_UNSIGNED[array.dtype.itemsize]) if array.dtype.isbuiltin == 2 else array
    return np.frombuffer(array.tobytes(), np.uint8).reshape(*array.shape, array.dtype.itemsize)


def _is_described(dtype: np.dtype[Any]) -> bool:
    """Tell whether a `.npy` file would lose a part of a type: offsets, alignment or a size of 0."""
    return dtype.isbuiltin != 2 and (dtype.kind == "V" or dtype.itemsize == 0)


def _described(dtype: np.dtype[Any]) -> Any:
    """Return a type as JSON: its name, or all of it where a `.npy` file would lose a part."""
    return _spelled(dtype) if _is_described(dtype) else dtype.name


def _spelled(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _spelled(base), "shape": list(shape)}
    if dtype.names is None:
        return {"type": dtype.name if dtype.isbuiltin == 2 else dtype.str}
    fields = [dtype.fields[name] for name in dtype.names] if dtype.fields else []
    titles = [field[2] if len(field) > 2 else None for field in fields]
    return {
        "names": list(dtype.names),
        "formats": [_spelled(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": [title if isinstance(title, str) else None for title in titles],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
        "record": issubclass(dtype.type, np.record),
    }


def _read_type(told: Mapping[str, Any]) -> np.dtype[Any]:
    make: Callable[[Any], np.dtype[Any]] = np.dtype
    if "base" in told:
        return make((_read_type(told["base"]), tuple(told["shape"])))
    if "type" in told:
        return make(getattr(ml_dtypes, told["type"], told["type"]))
    fields = {name: told[name] for name in ("names", "offsets", "titles", "itemsize", "aligned")}
    dtype = make({**fields, "formats": [_read_type(one) for one in told["formats"]]})
    return make((np.record, dtype)) if told["record"] else dtype


def _read(file: zipfile.ZipFile, number: int, told: Any) -> NDArray[Any]:
    with file.open(f"{number}.npy") as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    if isinstance(told, dict):
        dtype, shape = _read_type(told), array.shape[:-1]
        if dtype.hasobject:
            raise ValueError("an array of objects")
        return np.ndarray(shape, dtype, bytearray(array.tobytes() or bytes(1)))
    if array.dtype.name == told:
        return array
    return array.view(np.dtype(getattr(ml_dtypes, told, told)))

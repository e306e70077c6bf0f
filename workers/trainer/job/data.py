"""A job's data: the result of `load_data`, validated once and kept for all trials with the same arguments.

Arrays are read-only, in the dtypes that Keras trains in (floats in `keras.config.floatx()`), so that one
trial cannot change what another trains on. Datasets and `PyDataset`s are used unchanged; they are stateful,
so each run loads its own.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.job.arrays import ROLES, check_spec, to_array

_PARTS = ("train", "validation", "test")
_KEPT = 2
_REMEMBERED = 1_000
_LARGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Arrays:
    """One part of the data, in memory.

    Args:
        x: inputs: an array or a dict, list or tuple of them, with rows on the first axis of each.
        y: targets in the same form, or None.
        weight: sample weights, or None.
        rows: the number of rows.
    """

    x: Any
    y: Any
    weight: Any
    rows: int
    _tensors: list[Any] = field(default_factory=list, repr=False, compare=False)

    def packed(self) -> Any:
        """Return the argument of a model's `train_step`: `x`, `(x, y)` or `(x, y, weight)`."""
        return keras.utils.pack_x_y_sample_weight(self.x, self.y, self.weight)

    def tensors(self) -> Any:
        """Return `packed()` as tensors on the CPU, created once for all runs."""
        if not self._tensors:
            with tf.device("CPU:0"):
                self._tensors.append(keras.tree.map_structure(tf.convert_to_tensor, self.packed()))
        return self._tensors[0]


@dataclass(frozen=True)
class Stream:
    """One part of the data as a `tf.data.Dataset` or a `keras.utils.PyDataset`."""

    dataset: Any
    _loaded: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._loaded.update(self._large())

    @property
    def keeps_state(self) -> bool:
        """Whether its attributes are training state, such as an order that each epoch shuffles further."""
        return isinstance(self.dataset, keras.utils.PyDataset)

    def unchanged(self) -> frozenset[str]:
        """Return the names of large arrays that have not changed since `load_data`: these are not state."""
        return frozenset(name for name, found in self._large().items() if self._loaded.get(name) == found)

    def _large(self) -> dict[str, int]:
        if not self.keeps_state:
            return {}
        return {
            name: zlib.crc32(np.ascontiguousarray(value).view(np.uint8).data)
            for name, value in vars(self.dataset).items()
            if isinstance(value, np.ndarray) and value.nbytes >= _LARGE_BYTES and not value.dtype.hasobject
        }


Part = Arrays | Stream


@dataclass(frozen=True)
class JobData:
    """The data of a job.

    Args:
        train: the training data.
        validation: evaluated after each epoch, or None.
        test: not used to choose anything, or None.
        given: the result of `load_data`, for functions that take `data`.
    """

    train: Part
    validation: Part | None = None
    test: Part | None = None
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def shareable(self) -> bool:
        """Whether several runs may share it."""
        return all(not isinstance(part, Stream) for part in (self.train, self.validation, self.test))


@dataclass(frozen=True)
class Loaded:
    """The result of a call of `load_data`.

    Args:
        data: validated.
        names: Keras' name counters after the call.
        shareable: whether other trials may use it as if they had called `load_data` themselves.
    """

    data: JobData
    names: Mapping[str, int]
    shareable: bool


class DataCache:
    """The most recent data sets, in memory.

    While a data set is being loaded, other runs that ask for any have to wait: two copies of it at once could
    exhaust the memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Loaded] = OrderedDict()
        self._unshared: OrderedDict[str, None] = OrderedDict()

    def is_unshared(self, key: str) -> bool:
        """Tell whether each trial loads this data separately."""
        return key in self._unshared

    def get(self, key: str, load: Callable[[], Loaded]) -> Loaded:
        """Return the data cached under `key`, or load it.

        Args:
            key: the bundle and the arguments of `load_data`.
            load: calls the job's `load_data`.

        Raises:
            JobError: what it returned is not data.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            loaded = load()
            kept: OrderedDict[str, Any] = self._kept if loaded.shareable else self._unshared
            kept[key] = loaded if loaded.shareable else None
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            while len(self._unshared) > _REMEMBERED:
                self._unshared.popitem(last=False)
            return loaded


def read_data(loaded: Any, more: bool = False) -> JobData:
    """Validate what `load_data` returned.

    Args:
        loaded: the return value.
        more: whether it may contain other things, because a function of the job takes `data`.

    Raises:
        JobError: not a dict with `train`, or parts that are not data, or of different lengths.
    """
    if not isinstance(loaded, Mapping) or "train" not in loaded:
        raise _wrong(
            "load_data must return a dict with 'train' and, if wanted, 'validation' and 'test', "
            f'got {_kind(loaded)}; return {{"train": (x, y), "validation": (xv, yv)}}'
        )
    unknown = sorted(str(name) for name in loaded if name not in _PARTS)
    if unknown and not more:
        raise _wrong(
            f"load_data may return the parts {', '.join(_PARTS)}, got {unknown[0]!r}; rename or remove it, "
            "or let build_model or callbacks take `data`, which is all that load_data returned"
        )
    known = {name: loaded[name] for name in _PARTS if name in loaded}
    parts = {name: read_part(name, part) for name, part in known.items() if part is not None}
    if "train" not in parts:
        raise _wrong("load_data must return training data, got None under 'train'; return (x, y)")
    return JobData(
        **parts, given={**loaded, **{name: given_part(known[name], parts[name]) for name in parts}}
    )


def given_part(returned: Any, part: Part) -> Any:
    """Return a part for a function that takes `data`: nested as `load_data` returned it, arrays read-only,
    tables of pandas as they are.
    """
    if isinstance(part, Stream):
        return returned
    arrays = (part.x, part.y, part.weight)
    if isinstance(returned, (tuple, list)):
        found = [_given(one, array) for one, array in zip(returned, arrays, strict=False)]
        make = getattr(returned, "_make", type(returned))  # that of a named tuple
        return make(found)
    return _given(returned, part.x)


def is_table(value: Any) -> bool:
    """Tell whether a value is a DataFrame or a Series, which functions of a job may use as such."""
    return hasattr(value, "iloc") and callable(getattr(value, "copy", None))


def _given(returned: Any, arrays: Any) -> Any:
    if arrays is None:
        return None
    return keras.tree.map_structure(lambda one, array: one if is_table(one) else array, returned, arrays)


def read_part(name: str, part: Any) -> Part:
    """Validate one part of the data, and freeze it."""
    if isinstance(part, (tf.data.Dataset, keras.utils.PyDataset, tf.distribute.DistributedDataset)):
        check_spec(name, part)
        return Stream(part)
    if isinstance(part, list) and 1 <= len(part) <= 3:
        part = tuple(part)
    if not isinstance(part, tuple):
        part = (part,)
    if not 1 <= len(part) <= 3:
        raise _wrong(f"load_data's {name!r} must be (x, y) or (x, y, sample_weight), got {len(part)} values")
    frozen = [
        None if values is None else _freeze(name, role, values)
        for role, values in zip(ROLES, part, strict=False)
    ]
    x, y, weight = (*frozen, None, None)[:3]
    lengths = {len(array) for array in keras.tree.flatten((x, y, weight)) if array is not None}
    if len(lengths) != 1:
        raise _wrong(
            f"the arrays of load_data's {name!r} must have equally many rows, got {sorted(lengths)}; "
            "check how they were split"
        )
    rows = lengths.pop()
    if rows == 0:
        raise _wrong(f"load_data's {name!r} must have at least one row, got none; check how it was split")
    return Arrays(x, y, weight, rows)


def weighted(part: Arrays, class_weight: Mapping[int, float] | None) -> Arrays:
    """Return the part with class weights as sample weights, as in `fit(class_weight=...)`.

    Args:
        part: one target array: class numbers, or one-hot rows.
        class_weight: weight of each class; missing classes have weight 1.

    Raises:
        JobError: there are sample weights already, or several targets.
    """
    if not class_weight:
        return part
    if part.weight is not None:
        raise _wrong("class_weight and sample weights exclude each other, got both; keep one of them")
    if not isinstance(part.y, np.ndarray):
        raise _wrong(
            f"class_weight needs a model with one target array, got {_kind(part.y)}; use sample weights"
        )
    classes = np.argmax(part.y, axis=-1) if part.y.ndim > 1 and part.y.shape[-1] > 1 else part.y
    weights = np.ones(part.rows, dtype=keras.config.floatx())
    rounded = np.round(classes.reshape(part.rows)).astype("int32")
    for number, weight in class_weight.items():
        weights[rounded == int(number)] = weight
    return replace(part, weight=weights, _tensors=[])


def _freeze(name: str, role: str, values: Any) -> Any:
    return keras.tree.map_structure(lambda value: _read_only(to_array(name, role, value)), values)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself if its dtype is already right: large data is not copied."""
    if np.issubdtype(array.dtype, np.floating) and array.dtype.name != keras.config.floatx():
        array = array.astype(keras.config.floatx())
    array = array.view()
    array.flags.writeable = False
    return array


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(repr(key) for key in list(value)[:5]) or 'nothing'}"
    return "None" if value is None else f"a {type(value).__name__}"


def _wrong(message: str) -> JobError:
    return JobError(FailureClass.USER, message)

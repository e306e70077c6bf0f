"""The state of callbacks, and of what else a job keeps, as plain JSON and arrays.

Whatever cannot be saved (the job's functions, open files, the model) is left as the new process creates it.
"""

from __future__ import annotations

import os
import random
import threading
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from queue import LifoQueue, PriorityQueue, Queue, SimpleQueue
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.job.enclave import current
from kerasweep.workers.trainer.job.source import is_job_class
from kerasweep.workers.trainer.state.definitions import WITH_VARIABLES, described, place_of, variables_of
from kerasweep.workers.trainer.state.holders import OF_PYTHON, container_of, state_of

#: Stands for an item that is not state: it stays what the new process has in its place.
LEFT: dict[str, Any] = {"left": None}

#: Kinds of arrays that have methods of their own and no further content.
ARRAY_KINDS: dict[str, type] = {"recarray": np.recarray, "matrix": np.matrix}

_PLAIN = (bool, int, str, type(None))
#: Other values of Python's own, as JSON.
_WRITTEN: dict[type, Callable[[Any], Any]] = {
    complex: lambda value: [value.real.hex(), value.imag.hex()],
    date: date.isoformat,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    Fraction: str,
    bytearray: bytearray.hex,
    array: lambda value: [value.typecode, value.tobytes().hex()],
}
QUEUES = (Queue, LifoQueue, PriorityQueue, SimpleQueue)
_DEPTH, _MOST_OBJECTS = 12, 10_000


def is_stored(array: NDArray[Any]) -> bool:
    """Tell whether an array is saved as it is: of a known kind, and without objects."""
    kinds = (np.ndarray, np.memmap, np.ma.MaskedArray, *ARRAY_KINDS.values())
    return type(array) in kinds and not array.dtype.hasobject


def has_other_threads() -> bool:
    """Tell whether the calling trial has threads of its own."""
    enclave, here = current(), threading.current_thread()
    of_trials = [one for one in threading.enumerate() if one is not here and enclave is not None]
    return any(getattr(one, "kerasweep_enclave", None) is enclave for one in of_trials)


def waiting_in(found: Any) -> list[Any]:
    """Return what is in a queue, in the order in which it is kept."""
    if not isinstance(found, SimpleQueue):
        with found.mutex:
            return list(found.queue)
    items = [found.get_nowait() for _ in range(found.qsize())]  # there is no other way to see them
    for item in items:
        found.put(item)
    return items


class Skipped(Exception):
    """A value that is not state."""


class StateWriter:
    """Turns values into JSON, with arrays stored separately.

    Args:
        known: the ids of variables that are saved elsewhere, as those of the trial's model: a layer or an
            optimizer that has no others is not state.
        folder: the trial's working folder; paths into it are saved relative to it.
        owners: objects that are saved elsewhere, by id: their names there.

    Attributes:
        arrays: the arrays found, in order; the JSON refers to them by number.
        left: what is within containers and not state.
    """

    def __init__(
        self,
        known: frozenset[int] = frozenset(),
        folder: Path | None = None,
        owners: Mapping[int, str] | None = None,
    ) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.left: list[Any] = []
        self._known, self._folder, self._owners = known, str(folder or ""), owners or {}
        self._within: set[int] = set()
        #: The objects that were written, by id: whoever refers to one again refers to its number.
        self._numbers: dict[int, int] = {}

    def attributes(self, owner: Any, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the state of an object's attributes, without those that are not state."""
        return self._attributes(owner, 0, without)

    def _attributes(self, owner: Any, depth: int, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        found = {}
        for name, value in state_of(owner).items():
            if name not in without:
                with suppress(Skipped):
                    found[name] = self.value(value, depth)
        return found

    def array(self, array: Any) -> dict[str, Any]:
        """Store an array; return the reference to it."""
        if isinstance(array, (str, bytes)) or array.dtype.hasobject:  # texts of a variable
            raise Skipped
        self.arrays.append(np.array(array))
        return {"array": len(self.arrays) - 1}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON: `{kind: content}`.

        Raises:
            Skipped: it is not state.
        """
        for write in (self._leaf, self._array_of, _definition):
            if (found := write(value)) is not None:
                return found
        if id(value) in self._owners:
            return {"owner": self._owners[id(value)]}
        if id(value) in self._numbers:
            return {"same": self._numbers[id(value)]}
        if depth > _DEPTH or id(value) in self._within:
            raise Skipped
        self._within.add(id(value))
        before = len(self._numbers)
        try:
            return self._container(value, depth + 1)
        except Skipped:
            while len(self._numbers) > before:
                self._numbers.popitem()
            raise
        finally:
            self._within.remove(id(value))

    def _container(self, value: Any, depth: int) -> Any:
        kind = type(value).__name__
        if type(value) is np.ndarray and value.size <= _MOST_OBJECTS:
            items = _not_all_left([self._item(item, depth) for item in value.ravel().tolist()])
            return {"objects": {"shape": list(value.shape), "items": items}}
        if type(value) in (set, frozenset):
            return {kind: [self._key(item, depth) for item in sorted(value, key=repr)]}
        if type(value) in (list, tuple, deque):
            return {kind: _not_all_left([self._item(item, depth) for item in value])}
        if type(value) in (dict, OrderedDict, Counter, defaultdict):
            kind = "dict" if type(value) is defaultdict else kind
            keys = [self._key(key, depth) for key in value]
            items = _not_all_left([self._item(item, depth) for item in value.values()])
            return {kind: [list(pair) for pair in zip(keys, items, strict=True)]}
        if (found := self._of_python(value, depth)) is not None:
            return found
        if isinstance(value, WITH_VARIABLES):
            return self._with_variables(value)
        return self._object(value, depth)

    def _of_python(self, value: Any, depth: int) -> Any:
        """Save what keeps its identity in the new process, and is given its state there."""
        if isinstance(value, np.random.Generator):
            return {"generator": self.value(value.bit_generator.state, depth)}
        if isinstance(value, np.random.RandomState):
            return {"random_state": self.value(value.get_state(legacy=False), depth)}
        if isinstance(value, random.Random):
            return {"random": self.value(value.getstate(), depth)}
        if isinstance(value, ContextVar):
            found = value.get(LEFT)  # not the default, which the new process has too
            return {"context": [] if found is LEFT else [self.value(found, depth)]}
        if type(value) in QUEUES:
            return {"queue": self._queue(value, depth)}
        return None

    def _queue(self, value: Any, depth: int) -> dict[str, Any]:
        """Save what is in a queue, unless other threads of the trial may take from it meanwhile."""
        if has_other_threads():
            raise Skipped
        items = _not_all_left([self._item(item, depth) for item in waiting_in(value)])
        size = [] if isinstance(value, SimpleQueue) else [value.maxsize]
        unfinished = getattr(value, "unfinished_tasks", 0)
        return {"items": items, "unfinished": unfinished, "of": type(value).__name__, "size": size}

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, (np.str_, np.bytes_)):  # an array would take the zeros at their ends off
            return {"str_": "".join(value)} if isinstance(value, np.str_) else {"bytes_": value.hex()}
        if isinstance(value, (str, Path)) and (inside := self._in_folder(value)) is not None:
            return {"path" if isinstance(value, Path) else "text": inside}
        if isinstance(value, Path):
            return {"place": str(value)}
        if type(value) in _PLAIN:
            return {"plain": value}
        if isinstance(value, float) and not isinstance(value, np.generic):
            return {"float": value.hex()}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if type(value) is datetime:
            return {"datetime": value.isoformat()}
        if type(value) in _WRITTEN:
            return {"value": [type(value).__name__, _WRITTEN[type(value)](value)]}
        if isinstance(value, Enum) and (place := place_of(type(value))) is not None:
            return {"member": [*place, value.name]}
        return None

    def _in_folder(self, value: str | Path) -> str | None:
        """Return a path relative to the trial's folder, which another process has elsewhere."""
        text = str(value)
        if self._folder and (text == self._folder or text.startswith(self._folder + os.sep)):
            return text[len(self._folder) :]
        return None

    def _array_of(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return {"scalar": self.array(np.asarray(value))}
        if isinstance(value, np.ndarray):
            return self._of_kind(value) if value.dtype != object else None
        if isinstance(value, (keras.Variable, tf.Variable)):
            return {"variable": {**self.array(value.numpy()), "keras": isinstance(value, keras.Variable)}}
        if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):  # one of a graph has no value
            if value.dtype == tf.string:
                found = value.numpy()  # bytes where it has no axes
                texts = [found] if isinstance(found, bytes) else found.ravel().tolist()
                return {"texts": {"shape": list(value.shape), "items": [text.hex() for text in texts]}}
            return {"tensor": self.array(value.numpy())}
        return None

    def _of_kind(self, value: Any) -> Any:
        if not is_stored(value):
            raise Skipped
        if isinstance(value, np.ma.MaskedArray):
            found: Any = value
            mask = None if value.mask is np.ma.nomask else value.mask
            parts = {"data": value.data, "mask": mask, "fill": found._fill_value}
            stored = {name: None if part is None else self.array(part) for name, part in parts.items()}
            return {"masked": {**stored, "hard": bool(value.hardmask)}}
        kind = next((name for name, of in ARRAY_KINDS.items() if type(value) is of), None)
        return {"view": {"of": kind, **self.array(value)}} if kind else self.array(value)

    def _key(self, key: Any, depth: int) -> Any:
        content = self.value(key, depth)
        if "object" in content and not isinstance(key, tuple):
            raise Skipped  # it could be hashed only once its attributes are restored
        return content

    def _item(self, item: Any, depth: int) -> Any:
        try:
            return self.value(item, depth)
        except Skipped:
            self.left.append(item)
            return LEFT

    def _with_variables(self, value: Any) -> Any:
        variables = variables_of(value)
        if not isinstance(value, (keras.Metric, keras.random.SeedGenerator)):
            variables = [one for one in variables if id(one) not in self._known]
            if not variables:
                raise Skipped
        values = [self.array(variable.numpy()) for variable in variables]
        return {"variables": {"values": values, **described(value)}}

    def _object(self, value: Any, depth: int) -> Any:
        """Save an object of a plain class of the job, or a callback inside a callback."""
        own = (is_job_class(type(value)) and not isinstance(value, Enum)) or type(value) in OF_PYTHON
        if not own and not isinstance(value, keras.callbacks.Callback):
            raise Skipped
        base = container_of(type(value))
        if base is tuple and place_of(type(value)) is None:
            raise Skipped
        number = self._numbers[id(value)] = len(self._numbers)
        found = {"number": number, "state": self._attributes(value, depth), **described(value)}
        if base is not None:
            found["items"] = self.value(base(value), depth)
        return {"object": found}


def _not_all_left(items: list[Any]) -> list[Any]:
    if items and all(item is LEFT for item in items):
        raise Skipped
    return items


def _definition(value: Any) -> Any:
    place = place_of(value) if isinstance(value, (FunctionType, np.ufunc, type)) else None
    return {"function": place} if place else None

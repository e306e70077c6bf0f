"""What a `StateWriter` saved, back into the objects of a new process."""

from __future__ import annotations

import random
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.state.definitions import definition_at, job_class, made, variables_of
from kerasweep.workers.trainer.state.holders import fill, refill, set_attribute
from kerasweep.workers.trainer.state.state_writer import ARRAY_KINDS, LEFT, QUEUES, waiting_in

_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque,
}  # fmt: skip
_MAPPINGS: dict[str, Callable[[list[Any]], Any]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": lambda items: Counter(dict(items)),
}
_GENERATORS: dict[str, Callable[[], Any]] = {
    "generator": np.random.default_rng, "random_state": np.random.RandomState, "random": random.Random,
}  # fmt: skip
_MUTABLE = (list, dict, set, deque)
_QUEUES = {kind.__name__: kind for kind in QUEUES}
_VALUES: dict[str, Callable[[Any], Any]] = {
    "complex": lambda parts: complex(*map(float.fromhex, parts)),
    "date": date.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "Decimal": Decimal,
    "Fraction": Fraction,
    "bytearray": bytearray.fromhex,
    "array": lambda parts: array(parts[0], bytes.fromhex(parts[1])),
}
_LEAVES: dict[str, Callable[[Any], Any]] = {
    "plain": lambda inner: inner,
    "float": float.fromhex,
    "bytes": bytes.fromhex,
    "str_": np.str_,
    "bytes_": lambda inner: np.bytes_(bytes.fromhex(inner)),
    "texts": lambda inner: _text_tensor(**inner),
    "place": Path,
    "datetime": datetime.fromisoformat,
    "value": lambda inner: _VALUES[inner[0]](inner[1]),
    "function": lambda inner: definition_at(*inner),
    "member": lambda inner: job_class(*inner[:2])[inner[2]],
}


class StateReader:
    """Restores what a `StateWriter` saved: everything is read and validated before anything is assigned.

    Args:
        arrays: those stored by the writer.
        known: the ids of variables that are saved elsewhere, as those that the writer had.
        folder: the trial's working folder in this process.
        owners: objects that are saved elsewhere, by their names there.
    """

    def __init__(
        self,
        arrays: list[NDArray[Any]],
        known: frozenset[int] = frozenset(),
        folder: Path | None = None,
        owners: Mapping[str, Any] | None = None,
    ) -> None:
        self._arrays, self._known, self._folder = arrays, known, str(folder or "")
        self._owners, self._objects = owners or {}, dict[int, Any]()
        self._assignments: list[Callable[[], object]] = []

    def apply(self) -> None:
        """Assign everything that was read."""
        for assign in self._assignments:
            assign()
        self._assignments = []

    def attributes(self, owner: Any, state: Mapping[str, Any]) -> None:
        """Read an object's attributes, to be assigned by `apply`.

        Raises:
            ValueError, LookupError, TypeError: the state belongs to another kind of object.
        """
        for name, content in state.items():
            present = getattr(owner, name, None)
            self.named(content, present, partial(set_attribute, owner, name))

    def named(self, content: Mapping[str, Any], present: Any, put: Callable[[Any], object]) -> None:
        """Read a value, to be put in place of the present one by `apply`.

        Raises:
            ValueError, LookupError, TypeError: it belongs to another kind of object.
        """
        value = self.value(content, present)
        if value is not present:
            self._assignments.append(partial(put, value))

    def value(self, content: Mapping[str, Any], present: Any = None) -> Any:
        """Return the value; what can only be changed in place is changed in `present` by `apply`."""
        [(kind, inner)] = content.items()
        if kind in _LEAVES:
            return _LEAVES[kind](inner)
        if kind in ("text", "path"):
            place = self._folder + inner
            return place if kind == "text" else Path(place)
        if kind in ("owner", "same"):
            return self._owners[inner] if kind == "owner" else self._objects[inner]
        if kind in ("array", "scalar", "tensor", "view", "masked"):
            return self._array_of(kind, inner)
        if kind == "objects":
            return self._objects_of(inner, present)
        if kind in _SEQUENCES:
            return self._sequence(kind, inner, present)
        if kind in _MAPPINGS:
            return self._mapping(kind, inner, present)
        return self._in_place(kind, inner, present)

    def _array_of(self, kind: str, inner: Any) -> Any:
        if kind == "masked":
            parts = {name: inner[name] and self.value(inner[name]) for name in ("data", "mask", "fill")}
            return _masked(**parts, hard=inner["hard"])
        array = self._arrays[inner if kind == "array" else inner["array"]]
        if kind == "tensor":
            return tf.convert_to_tensor(array)
        array = array.copy()
        if kind == "view":
            return array.view(ARRAY_KINDS[inner["of"]])
        return array[()] if kind == "scalar" else array

    def _sequence(self, kind: str, inner: list[Any], present: Any) -> Any:
        same = isinstance(present, (list, tuple, deque)) and len(present) == len(inner)
        if not same and LEFT in inner:
            raise ValueError(f"a {kind} holds what no checkpoint can, and has {len(inner)} items")
        items = [self._item(item, present[number] if same else None) for number, item in enumerate(inner)]
        if kind == "deque" and isinstance(present, deque):
            return self._refilled(present, deque(items, maxlen=present.maxlen))
        return self._refilled(present, _SEQUENCES[kind](items))

    def _objects_of(self, inner: Any, present: Any) -> Any:
        shape = tuple(inner["shape"])
        known = present.ravel().tolist() if isinstance(present, np.ndarray) else None
        found = np.empty(shape, object)
        for place, item in zip(
            np.ndindex(shape), self._sequence("tuple", inner["items"], known), strict=True
        ):
            found[place] = item
        return found

    def _mapping(self, kind: str, inner: list[Any], present: Any) -> Any:
        known = present if isinstance(present, Mapping) else {}
        items = []
        for key, item in inner:
            name = self.value(key)
            if item != LEFT or name in known:
                items.append((name, self._item(item, known.get(name))))
        if isinstance(present, defaultdict):
            return self._refilled(present, defaultdict(present.default_factory, items))
        return self._refilled(present, _MAPPINGS[kind](items))

    def _item(self, content: Mapping[str, Any], present: Any) -> Any:
        return present if "left" in content else self.value(content, present)

    def _refilled(self, present: Any, value: Any) -> Any:
        """Return the container that is present, if it can be given the content: others may share it."""
        if type(present) is not type(value) or not isinstance(value, _MUTABLE):
            return value
        self._assignments.append(partial(refill, present, value))
        return present

    def _in_place(self, kind: str, inner: Any, present: Any) -> Any:
        """Restore what keeps its identity; what the object gained during the training is created anew."""
        if kind == "variable":
            array = self._arrays[inner["array"]]
            if present is None:
                return keras.Variable(array) if inner["keras"] else tf.Variable(array)
            self._assign(present, array)
        elif kind == "variables":
            present = made(inner) if present is None else present
            self._assign_all(present, inner["values"])
        elif kind in _GENERATORS:
            present = _GENERATORS[kind]() if present is None else present
            self._assignments.append(partial(_set_generator, present, self.value(inner)))
        elif kind == "context":
            present = ContextVar("created") if present is None else present
            for content in inner:
                self.named(content, present.get(None), present.set)
        elif kind == "queue":
            if present is None:
                present = _QUEUES[inner["of"]](*inner["size"])
            items = self._sequence("tuple", inner["items"], waiting_in(present))
            self._assignments.append(partial(_fill_queue, present, items, inner["unfinished"]))
        elif kind == "object":
            present = self._object(inner, present)
        else:
            raise ValueError(f"a callback's state holds an unknown kind {kind!r}")
        return present

    def _object(self, inner: Any, present: Any) -> Any:
        items = self.value(inner["items"]) if "items" in inner else None
        if isinstance(items, tuple):  # a named tuple
            return tuple.__new__(job_class(*inner["class"]), items)
        if type(present).__qualname__ != inner["class"][1]:
            present = None
        present = made(inner) if present is None else present
        if "number" in inner:
            self._objects[inner["number"]] = present
        self.attributes(present, inner["state"])
        if items is not None:
            self._assignments.append(partial(fill, present, items))
        return present

    def _assign_all(self, owner: Any, contents: list[Any]) -> None:
        variables = variables_of(owner)
        if not isinstance(owner, (keras.Metric, keras.random.SeedGenerator)):
            variables = [one for one in variables if id(one) not in self._known]
        if len(variables) != len(contents):
            raise ValueError(
                f"a {type(owner).__name__} must have the {len(contents)} variables that were saved, got "
                f"{len(variables)}: it is built during the training"
            )
        for variable, content in zip(variables, contents, strict=True):
            self._assign(variable, self._arrays[content["array"]])

    def _assign(self, variable: Any, array: NDArray[Any]) -> None:
        if tuple(variable.shape) != array.shape:
            raise ValueError(
                f"a callback's variable has the shape {tuple(variable.shape)}, got {array.shape}"
            )
        self._assignments.append(partial(variable.assign, array))


def _text_tensor(shape: list[int], items: list[str]) -> Any:
    return tf.reshape(tf.constant([bytes.fromhex(item) for item in items], tf.string), shape)


def _masked(data: Any, mask: Any, fill: Any, hard: bool) -> Any:
    mask = np.ma.nomask if mask is None else mask
    return np.ma.MaskedArray(data, mask, fill_value=fill, hard_mask=hard)


def _fill_queue(found: Any, items: Sequence[Any], unfinished: int) -> None:
    if isinstance(found, SimpleQueue):
        for _ in waiting_in(found):
            found.get_nowait()
        for item in items:
            found.put(item)
        return
    with found.mutex:
        found.queue.clear()
        found.queue.extend(items)
        found.unfinished_tasks = unfinished
        found.not_empty.notify_all()
        found.not_full.notify_all()


def _set_generator(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)

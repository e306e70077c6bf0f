"""Where a job's program keeps values outside of its model: modules, classes, functions and plain objects.

A count in a global or in a closure, a list in a class, a tracker whose method a `LambdaCallback` calls: code
between the steps changes them, so they belong to a trial's state as the attributes of its callbacks do.
"""

from __future__ import annotations

import functools
import threading
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import keras
import tensorflow as tf

from kerasweep.workers.trainer.job.source import is_job_class, is_of_job

#: Attributes of every callback that belong to the process, not to the training.
_NOT_STATE = frozenset({"_model", "model", "params", "validation_data", "_supports_tf_logs"})

#: Names the items of an object whose class extends a container.
_ITEMS = "[]"
_DEPTH, _MOST_ITEMS, _MOST_OBJECTS = 12, 1_000, 20_000
_CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, tuple, set, frozenset, deque)
_ATOMS = (bool, int, float, complex, str, bytes, type(None))
#: Objects whose state is saved as that of the model, of metrics, or of callbacks.
_OF_KERAS = (keras.Layer, keras.Metric, keras.Optimizer, keras.Variable, tf.Variable, tf.Module)
#: Classes of Python's own whose objects are their attributes; those of a `local` are its thread's.
OF_PYTHON = (SimpleNamespace, threading.local, ChainMap, UserDict, UserList, UserString)
#: What `functools.cache` and `functools.lru_cache` return.
CACHED = functools._lru_cache_wrapper
_DESCRIBING = (FunctionType, property, staticmethod, classmethod)


class Holder:
    """Something of a job's that has named values.

    Args:
        owner: a module, a class, a function, a `functools.partial`, or an object.
    """

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def values(self) -> dict[str, Any]:
        """Return the values, by name."""
        if isinstance(self.owner, FunctionType):
            return dict(_of_function(self.owner))
        if isinstance(self.owner, partial):
            return dict(_numbered(self.owner.args)) | dict(self.owner.keywords)
        found = state_of(self.owner)
        if (base := container_of(type(self.owner))) is not None:
            found[_ITEMS] = tuple(dict.items(self.owner) if base is dict else base.__iter__(self.owner))
        is_class = isinstance(self.owner, type)
        return {
            name: value
            for name, value in found.items()
            if not name.startswith("__")
            and not isinstance(value, ModuleType)
            and not (is_class and isinstance(value, _DESCRIBING))
        }

    def put(self, name: str, value: Any) -> None:
        """Replace a value; lists and dicts stay the objects that they are."""
        if name == _ITEMS:
            fill(self.owner, value)
            return
        present = self.values().get(name)
        if refill(present, value) or isinstance(self.owner, partial):
            return
        if isinstance(self.owner, (type, ModuleType)):
            setattr(self.owner, name, value)
        elif not isinstance(self.owner, FunctionType):
            set_attribute(self.owner, name, value)
        elif name.startswith("."):
            setattr(self.owner, name[1:], value)
        elif (cell := _cells(self.owner).get(name)) is not None:
            cell.cell_contents = value


def set_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute past a `__setattr__` of the job's own, as that of a frozen dataclass."""
    # Of a `local`, `object` would not find the thread's own attributes.
    (setattr if isinstance(owner, threading.local) else object.__setattr__)(owner, name, value)


def refill(present: Any, value: Any) -> bool:
    """Give a container the content of another of its type; tell whether it could be done."""
    if present is None or type(present) is not type(value):
        return False
    if type(present) is list:
        present[:] = value
    elif type(present) in (dict, OrderedDict, defaultdict, Counter, set):
        present.clear()
        present.update(value)
    elif type(present) is deque:
        present.clear()
        present.extend(value)
    else:
        return False
    return True


def container_of(kind: type) -> Any:
    """Return the type of container that a class of the job extends; None where it extends none."""
    return next((base for base in (list, dict, set, deque, tuple) if issubclass(kind, base)), None)


def fill(present: Any, items: Any) -> None:
    """Give an instance of a class that extends a container its content, past methods of its own."""
    base = container_of(type(present))
    base.clear(present)
    (base.extend if base in (list, deque) else base.update)(present, items)


def holders_of(
    modules: Mapping[str, ModuleType], callbacks: Sequence[keras.callbacks.Callback]
) -> dict[str, Holder]:
    """Return what holds values of a job's, by a name that is the same in every process.

    Args:
        modules: the job's, by name.
        callbacks: the trial's, whose own attributes are saved elsewhere.
    """
    search = _Search(set(map(id, callbacks)))
    for name, module in modules.items():
        search.add(name, module)
    for number, callback in enumerate(callbacks):
        place = f"callback {number} {type(callback).__name__}"
        for kind in type(callback).__mro__:
            search.visit(f"{place}: {kind.__qualname__}", kind, 0)
        for name, value in state_of(callback).items():
            search.visit(f"{place}.{name}", value, 0)
    return search.found


def state_of(owner: Any) -> dict[str, Any]:
    """Return the attributes of an object itself, in its slots too, without what is not state."""
    found = dict(getattr(owner, "__dict__", {}))
    for kind in type(owner).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(owner, name):
                found[name] = getattr(owner, name)
    if isinstance(owner, keras.callbacks.Callback):
        return {name: value for name, value in found.items() if name not in _NOT_STATE}
    return found


class _Search:
    def __init__(self, without: set[int]) -> None:
        self.found: dict[str, Holder] = {}
        self._seen = without

    def add(self, place: str, owner: Any, depth: int = 0) -> None:
        """Add a holder, and what its values hold."""
        holder = Holder(owner)
        values = holder.values()
        if values:
            self.found[place] = holder
        for name, value in values.items():
            self.visit(f"{place}.{name}", value, depth)
        if isinstance(owner, type):
            for name, value in vars(owner).items():
                self.visit(f"{place}.{name}", getattr(value, "__func__", value), depth)

    def visit(self, place: str, value: Any, depth: int) -> None:
        if depth > _DEPTH or isinstance(value, _ATOMS) or id(value) in self._seen:
            return
        if len(self._seen) > _MOST_OBJECTS:
            return
        self._seen.add(id(value))
        if type(value) in _CONTAINERS:
            for name, item in _items(value):
                self.visit(f"{place}[{name}]", item, depth + 1)
        elif isinstance(value, MethodType):
            self.visit(f"{place}.__self__", value.__self__, depth + 1)
            self.visit(f"{place}.__func__", value.__func__, depth + 1)
        elif isinstance(value, CACHED):
            self.visit(f"{place}.__wrapped__", value.__wrapped__, depth + 1)
        elif _is_holder(value):
            self.add(place, value, depth + 1)


def _is_holder(value: Any) -> bool:
    if isinstance(value, partial) or type(value) in OF_PYTHON:
        return True
    if isinstance(value, type):
        return is_job_class(value) and not issubclass(value, Enum)
    if isinstance(value, FunctionType):
        return is_of_job(value.__module__)
    return is_job_class(type(value)) and not isinstance(value, (*_OF_KERAS, Enum, tuple))


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from list(value.items())[:_MOST_ITEMS]
    elif not isinstance(value, (set, frozenset)):  # of which no order is the same in every process
        yield from list(enumerate(value))[:_MOST_ITEMS]


def _numbered(values: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield values with their places as names."""
    for place, value in enumerate(values):
        yield f"{place}", value


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function keeps between its calls; defaults can only be changed in place."""
    for name, cell in _cells(function).items():
        try:
            yield name, cell.cell_contents
        except ValueError:  # empty
            continue
    for name, value in vars(function).items():
        if name != "__wrapped__":
            yield f".{name}", value
    for place, value in _numbered(function.__defaults__ or ()):
        if type(value) in _CONTAINERS:
            yield f"={place}", value
    for name, value in (function.__kwdefaults__ or {}).items():
        if type(value) in _CONTAINERS:
            yield f"={name}", value


def _cells(function: FunctionType) -> dict[str, CellType]:
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

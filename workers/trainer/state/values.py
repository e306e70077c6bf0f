"""The state of callbacks, as plain JSON and arrays, and back into objects.

Whatever cannot be saved (the job's functions, open files, the model) is left as the new process created it.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.job.source import is_job_class

#: Attributes of every callback that belong to the process, not to the training.
_NOT_STATE = frozenset({"_model", "model", "params", "validation_data", "_supports_tf_logs"})
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
_PLAIN = (bool, int, str, type(None))
_DEPTH = 12


class Skipped(Exception):
    """A value that is not state."""


class StateWriter:
    """Turns values into JSON, with arrays stored separately.

    Attributes:
        arrays: the arrays found, in order; the JSON refers to them by number.
    """

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []

    def attributes(self, owner: Any, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the state of an object's attributes, without those that are not state."""
        found = {}
        for name, value in vars(owner).items():
            if name in _NOT_STATE or name in without:
                continue
            try:
                found[name] = self.value(value)
            except Skipped:
                continue
        return found

    def array(self, array: NDArray[Any]) -> dict[str, Any]:
        """Store an array; return the reference to it."""
        if array.dtype.hasobject:
            raise Skipped
        self.arrays.append(np.array(array))
        return {"array": len(self.arrays) - 1}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON: `{kind: content}`.

        Raises:
            Skipped: it is not state.
        """
        if depth > _DEPTH:
            raise Skipped
        if type(value) in _PLAIN:
            return {"plain": value}
        if isinstance(value, np.generic):
            return {"scalar": self.array(np.asarray(value))}
        if isinstance(value, float):
            return {"float": value.hex()}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, (keras.Variable, tf.Variable)):
            return {"variable": {**self.array(value.numpy()), "keras": isinstance(value, keras.Variable)}}
        if isinstance(value, tf.Tensor):
            return {"tensor": self.array(value.numpy())}
        if (place := _place_of(value)) is not None:
            return {"function": place}
        return self._container(value, depth + 1)

    def _container(self, value: Any, depth: int) -> Any:
        kind = type(value).__name__
        if type(value) in (list, tuple, set, frozenset, deque):
            ordered = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            return {kind: [self.value(item, depth) for item in ordered]}
        if type(value) in (dict, OrderedDict, Counter, defaultdict):
            kind = "dict" if type(value) is defaultdict else kind
            return {kind: [[self.value(key, depth), self.value(item, depth)] for key, item in value.items()]}
        if isinstance(value, np.random.Generator):
            return {"generator": self.value(value.bit_generator.state, depth)}
        if isinstance(value, np.random.RandomState):
            return {"random_state": self.value(value.get_state(legacy=False), depth)}
        if isinstance(value, random.Random):
            return {"random": self.value(value.getstate(), depth)}
        if isinstance(value, (keras.Metric, keras.random.SeedGenerator)):
            values = [self.array(variable.numpy()) for variable in _variables(value)]
            return {"variables": {"values": values, **_described(value)}}
        return self._object(value, depth)

    def _object(self, value: Any, depth: int) -> Any:
        """Save an object of a plain class of the job, or a callback inside a callback."""
        if not isinstance(value, keras.callbacks.Callback) and not is_job_class(type(value)):
            raise Skipped
        if not hasattr(value, "__dict__") or isinstance(value, keras.Layer):
            raise Skipped
        content = {}
        for name, item in vars(value).items():
            if name not in _NOT_STATE:
                try:
                    content[name] = self.value(item, depth)
                except Skipped:
                    continue
        return {"object": {"state": content, **_described(value)}}


class StateReader:
    """Restores what a `StateWriter` saved: everything is read and validated before anything is assigned.

    Args:
        arrays: those stored by the writer.
    """

    def __init__(self, arrays: list[NDArray[Any]]) -> None:
        self._arrays = arrays
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
            value = self.value(content, present)
            if value is not present:
                self._assignments.append(partial(setattr, owner, name, value))

    def value(self, content: Mapping[str, Any], present: Any = None) -> Any:
        """Return the value; what can only be changed in place is changed in `present` by `apply`."""
        [(kind, inner)] = content.items()
        if kind == "plain":
            return inner
        if kind == "float":
            return float.fromhex(inner)
        if kind == "bytes":
            return bytes.fromhex(inner)
        if kind == "array":
            return self._arrays[inner].copy()
        if kind == "scalar":
            return self._arrays[inner["array"]][()]
        if kind == "tensor":
            return tf.convert_to_tensor(self._arrays[inner["array"]])
        if kind == "function":
            return _function_at(*inner)
        if kind in _SEQUENCES:
            return self._sequence(kind, inner, present)
        if kind in _MAPPINGS:
            return self._mapping(kind, inner, present)
        return self._in_place(kind, inner, present)

    def _sequence(self, kind: str, inner: list[Any], present: Any) -> Any:
        same = isinstance(present, (list, tuple, deque)) and len(present) == len(inner)
        items = [self.value(item, present[number] if same else None) for number, item in enumerate(inner)]
        if kind == "deque" and isinstance(present, deque):
            return deque(items, maxlen=present.maxlen)
        return _SEQUENCES[kind](items)

    def _mapping(self, kind: str, inner: list[Any], present: Any) -> Any:
        known = present if isinstance(present, Mapping) else {}
        items = []
        for key, item in inner:
            name = self.value(key)
            items.append((name, self.value(item, known.get(name))))
        if isinstance(present, defaultdict):
            return defaultdict(present.default_factory, items)
        return _MAPPINGS[kind](items)

    def _in_place(self, kind: str, inner: Any, present: Any) -> Any:
        """Restore what keeps its identity; what the object gained during the training is created anew."""
        if kind == "variable":
            array = self._arrays[inner["array"]]
            if present is None:
                return keras.Variable(array) if inner["keras"] else tf.Variable(array)
            self._assign(present, array)
        elif kind == "variables":
            present = _made(inner) if present is None else present
            for variable, content in zip(_variables(present), inner["values"], strict=True):
                self._assign(variable, self._arrays[content["array"]])
        elif kind in _GENERATORS:
            present = _GENERATORS[kind]() if present is None else present
            self._assignments.append(partial(_set_generator, present, self.value(inner)))
        elif kind == "object":
            present = _made(inner) if present is None else present
            self.attributes(present, inner["state"])
        else:
            raise ValueError(f"a callback's state holds an unknown kind {kind!r}")
        return present

    def _assign(self, variable: Any, array: NDArray[Any]) -> None:
        if tuple(variable.shape) != array.shape:
            raise ValueError(
                f"a callback's variable has the shape {tuple(variable.shape)}, got {array.shape}"
            )
        self._assignments.append(partial(variable.assign, array))


def _place_of(value: Any) -> list[str] | None:
    """Return the module and the name of a function of Keras or NumPy; None for anything else.

    A callback may choose one during the training: `EarlyStopping` compares with `keras.ops.less`.
    """
    if not isinstance(value, (FunctionType, np.ufunc)):
        return None
    place = ["numpy", value.__name__] if isinstance(value, np.ufunc) else [value.__module__, value.__name__]
    return place if _lookup(*place) is value else None


def _lookup(module: str, name: str) -> Any:
    known = module.partition(".")[0] in ("keras", "numpy")
    return getattr(sys.modules.get(module), name, None) if known else None


def _function_at(module: str, name: str) -> Any:
    """Return the function at a place.

    Raises:
        ValueError: there is none.
    """
    found = _lookup(module, name)
    if not isinstance(found, (FunctionType, np.ufunc)):
        raise ValueError(f"a callback's state names the function {module}.{name}, which is not there")
    return found


def _set_generator(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _described(value: Any) -> dict[str, Any]:
    """Describe how an object can be recreated if a new callback does not have it yet."""
    if isinstance(value, keras.Metric) and not is_job_class(type(value)):
        return {"metric": keras.saving.serialize_keras_object(value)}
    return {"class": [type(value).__module__, type(value).__qualname__]}


def _made(inner: Mapping[str, Any]) -> Any:
    """Create an object as `_described` says, without its state.

    Raises:
        ValueError: its class is not found in the job.
    """
    if "metric" in inner:
        return keras.saving.deserialize_keras_object(inner["metric"])
    module, name = inner["class"]
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, keras.random.SeedGenerator):
        return found(seed=0)
    if not isinstance(found, type) or not is_job_class(found):
        raise ValueError(f"a callback's state holds a {module}.{name}, which the job does not have")
    return object.__new__(found)


def _variables(owner: Any) -> list[Any]:
    return [owner.state] if isinstance(owner, keras.random.SeedGenerator) else list(owner.variables)

"""The state of callbacks, as plain JSON and arrays, and back into the objects that had it.

What cannot be taken down (functions, open files, the model itself) is left as the new process made it.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
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
_PLAIN = (bool, int, str, type(None))
_DEPTH = 12


class Skipped(Exception):
    """A value that is no state."""


class StateWriter:
    """Turns values into JSON, with the arrays aside.

    Attributes:
        arrays: the arrays met, in order; the JSON refers to them by number.
    """

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []

    def attributes(self, owner: Any, without: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the state of an object's attributes, without those that are none."""
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
        """Set an array aside; return the reference to it."""
        if array.dtype.hasobject:
            raise Skipped
        self.arrays.append(np.array(array))
        return {"array": len(self.arrays) - 1}

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON: `{kind: content}`.

        Raises:
            Skipped: it is no state.
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
            return {"variable": self.array(value.numpy())}
        if isinstance(value, tf.Tensor):
            return {"tensor": self.array(value.numpy())}
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
            return {"variables": [self.array(variable.numpy()) for variable in _variables(value)]}
        return self._object(value, depth)

    def _object(self, value: Any, depth: int) -> Any:
        """Take down an object of a plain class of the job's or a callback inside a callback."""
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
        return {"object": content}


class StateReader:
    """Puts back what a `StateWriter` took down.

    Args:
        arrays: those that the writer set aside.
    """

    def __init__(self, arrays: list[NDArray[Any]]) -> None:
        self._arrays = arrays

    def attributes(self, owner: Any, state: Mapping[str, Any]) -> None:
        """Give an object its attributes back.

        Raises:
            ValueError: the state belongs to another kind of object.
        """
        for name, content in state.items():
            present = getattr(owner, name, None)
            value = self.value(content, present)
            if value is not present:
                setattr(owner, name, value)

    def value(self, content: Mapping[str, Any], present: Any = None) -> Any:
        """Return the value; what can only be changed in place is changed in `present` and returned."""
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
        if present is None:
            raise ValueError(f"a callback's state holds a {kind} that a fresh one does not have")
        if kind == "variable":
            present.assign(self._arrays[inner["array"]])
        elif kind == "variables":
            for variable, content in zip(_variables(present), inner, strict=True):
                variable.assign(self._arrays[content["array"]])
        elif kind == "generator":
            present.bit_generator.state = self.value(inner)
        elif kind == "random_state":
            present.set_state(self.value(inner))
        elif kind == "random":
            present.setstate(self.value(inner))
        elif kind == "object":
            self.attributes(present, inner)
        else:
            raise ValueError(f"a callback's state holds an unknown kind {kind!r}")
        return present


def _variables(owner: Any) -> list[Any]:
    return [owner.state] if isinstance(owner, keras.random.SeedGenerator) else list(owner.variables)

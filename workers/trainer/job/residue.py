"""What `load_data` leaves behind besides its result: a fingerprint of everything that a job's modules hold.

If the fingerprint is unchanged, one call serves all trials with the same arguments; if something changed that
`build_model` could see, or cannot be inspected, each trial calls `load_data` itself.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import random
import re
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_ATOMS = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.dtype, PurePath, re.Pattern)
_AS_THEY_ARE = (
    *(
        ModuleType,
        BuiltinFunctionType,
        CodeType,
        logging.Logger,
        type(threading.Lock()),
        type(threading.RLock()),
    ),
    *(tf.Tensor, tf.DType, tf.data.Dataset, tf.TensorShape),
)
_MOST = 50_000
_IGNORED = frozenset(
    {"__builtins__", "__cached__", "__loader__", "__spec__", "__doc__", "__warningregistry__"}
)


class Unseen(Exception):
    """Something cannot be inspected, so a change of it would go unnoticed."""


def residue(modules: Mapping[str, ModuleType]) -> str | None:
    """Return a fingerprint of what modules hold; None if that is unknown."""
    marker = _Marker(frozenset(modules))
    try:
        for name in sorted(modules):
            marker.write(name)
            marker.look({key: value for key, value in vars(modules[name]).items() if key not in _IGNORED})
    except (Unseen, RecursionError):
        return None
    return marker.digest()


class _Marker:
    def __init__(self, own: frozenset[str]) -> None:
        self._own = own
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, text: str) -> None:
        self._hash.update(text.encode("utf-8", "surrogatepass") + b"\0")

    def look(self, value: Any) -> None:
        """Record a value, and everything that it holds."""
        if isinstance(value, _ATOMS) and not hasattr(value, "__dict__"):
            self.write(f"{type(value).__name__} {value!r}")
            return
        if id(value) in self._seen:
            self.write(f"again {self._seen[id(value)]}")
            return
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)  # the id of a freed object would be reused
        if len(self._seen) > _MOST:
            raise Unseen
        self.write(type(value).__qualname__)
        self._look_into(value)

    def _look_into(self, value: Any) -> None:
        if isinstance(value, _AS_THEY_ARE):
            self.write(str(id(value)))
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            array = np.ascontiguousarray(value)
            crc = zlib.crc32(array.reshape(-1).view(np.uint8).data) if array.size else 0
            self.write(f"{array.dtype} {array.shape} {crc}")
        elif isinstance(value, (keras.Variable, tf.Variable)):
            self.look(np.asarray(value))
        elif isinstance(value, Mapping):
            self._look_at_all(pair for item in value.items() for pair in item)
        elif isinstance(value, (list, tuple)):
            self._look_at_all(value)
        elif isinstance(value, (set, frozenset)):
            self._look_at_all(sorted(value, key=repr))
        elif isinstance(value, np.random.Generator):
            self.look(value.bit_generator.state)
        elif isinstance(value, np.random.RandomState):
            self.look(value.get_state(legacy=False))
        elif isinstance(value, random.Random):
            self.look(value.getstate())
        else:
            self._look_at_object(value)

    def _look_at_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.look(value)

    def _look_at_object(self, value: Any) -> None:
        if isinstance(value, type):
            self.write(str(id(value)))
            if value.__module__ in self._own:
                self.look({name: one for name, one in vars(value).items() if not name.startswith("__")})
        elif isinstance(value, FunctionType):
            self._look_at_function(value)
        elif isinstance(value, MethodType):
            self.look(value.__self__)
        elif callable(value) and hasattr(value, "__wrapped__"):  # such as the wrappers of functools.cache
            self.write(str(id(value)))
        elif hasattr(value, "__dict__") and vars(value):
            self.look(vars(value))
        else:
            self._look_at_bytes(value)

    def _look_at_function(self, value: FunctionType) -> None:
        self.write(str(id(value.__code__)))
        if value.__module__ not in self._own:
            return
        self.look(vars(value))
        self.look(value.__defaults__)
        self.look(value.__kwdefaults__)
        for cell in value.__closure__ or ():
            try:
                self.look(cell.cell_contents)
            except ValueError:  # empty
                self.write("empty")

    def _look_at_bytes(self, value: Any) -> None:
        try:
            data = pickle.dumps(value)
        except Exception as exc:
            raise Unseen(type(value).__name__) from exc
        self._hash.update(data)

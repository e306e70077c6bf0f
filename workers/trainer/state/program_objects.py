"""What a job's program keeps in modules, classes, functions and objects, and is more than plain values."""

from __future__ import annotations

import builtins
import dis
import gc
import json
import pickle
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import IOBase
from itertools import chain, count
from operator import length_hint
from types import CodeType, FunctionType, GeneratorType, ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kerasweep.workers.trainer.job.source import is_job_class
from kerasweep.workers.trainer.state.attributes import is_plain
from kerasweep.workers.trainer.state.definitions import WITH_VARIABLES
from kerasweep.workers.trainer.state.holders import CACHED, Holder
from kerasweep.workers.trainer.state.state_reader import StateReader
from kerasweep.workers.trainer.state.state_writer import QUEUES, StateWriter, is_stored

#: Kinds of objects of which the state is saved wherever a job creates them at import.
_KEPT = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    keras.random.SeedGenerator,
    keras.Variable,
    keras.Metric,
    tf.Variable,
)
#: Larger arrays are looked at only for whether they are replaced.
_LARGEST_BYTES = 8 << 20
_LONGEST_S = 0.02
_LONG = 1_000
_ATOMS: frozenset[type] = frozenset({bool, int, float, str, bytes, type(None)})
#: What computes with variables that are saved elsewhere.
_VIEWS = (*WITH_VARIABLES, tf.types.experimental.GenericFunction)
#: Modules of which the functions compute from their arguments alone, but for these names.
_OF_FUNCTIONS = ("math", "cmath", "operator", "itertools", "numpy", "numpy.linalg", "numpy.fft")
_IMPURE = frozenset(
    {
        *("random", "empty", "empty_like", "open", "input", "load", "loadtxt", "genfromtxt", "fromfile"),
        *("memmap", "id", "hash", "exec", "eval", "globals", "locals", "vars", "setattr", "getattr"),
        *("print", "next"),
    }
)
_DEEPEST, _ABSENT = 4, object()
_NOT_PICKLED = ("keras", "tensorflow", "builtins", "_io", "threading", "_thread")


def save_modules(modules: Mapping[str, ModuleType], writer: StateWriter) -> dict[str, dict[str, Any]]:
    """Return the state of top-level objects in a job's modules, by module and name."""
    return {
        name: {key: writer.value(value) for key, value in vars(module).items() if isinstance(value, _KEPT)}
        for name, module in modules.items()
    }


def restore_modules(
    modules: Mapping[str, ModuleType], saved: Mapping[str, Mapping[str, Any]], reader: StateReader
) -> None:
    """Read what `save_modules` saved into a new instance of the modules, to be assigned by `reader.apply`.

    Raises:
        ValueError, LookupError, TypeError: it belongs to other modules.
    """
    for name, state in saved.items():
        if name in modules:
            reader.attributes(modules[name], state)


#: A holder and the name of a value in it.
_Key = tuple[Holder, str]


class _Look(NamedTuple):
    """What is seen of a value that is more than plain.

    Args:
        place: the name of its holder, which callbacks of one class share.
        key: its holder, and its name there.
        value: the value.
        mark: changes with it; None if it cannot be saved, or is saved elsewhere.
        unsaved: what of it cannot be saved.
    """

    place: str
    key: _Key
    value: Any
    mark: str | None
    unsaved: list[Any]


class ProgramObjects:
    """The values of a job's program that are more than plain: lists of objects, counters, models of its own.

    Args:
        holders: what has values, by name.
        callbacks: the trial's; their own values are saved elsewhere, and only watched here.
        known: the ids of the variables that are saved elsewhere.
    """

    def __init__(
        self,
        holders: Mapping[str, Holder],
        callbacks: Sequence[keras.callbacks.Callback],
        known: Callable[[], frozenset[int]],
    ) -> None:
        self._holders, self._known = holders, known
        self._watched = [Holder(one) for one in callbacks if is_job_class(type(one))]
        self._all = [*holders.items(), *((type(one.owner).__name__, one) for one in self._watched)]
        #: The holders' names, by the ids of their owners.
        self.names = {id(holder.owner): place for place, holder in holders.items()}
        self._first = {look.key: look.mark for look in self._look_at(holders.items())}
        self._slow: set[type] = set()
        self._unsaved: dict[tuple[_Key, int], tuple[Any, str]] = {}

    @property
    def owners(self) -> dict[str, Any]:
        """The holders' owners, by name."""
        return {place: holder.owner for place, holder in self._holders.items()}

    def begin(self) -> None:
        """Watch from now on whether what no checkpoint can hold is replaced."""
        for look in self._look_at(self._all):
            for one in look.unsaved:
                self._unsaved[look.key, id(one)] = (one, self._seen_of(one))

    def save(self, writer: StateWriter) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return what has changed, by holder and name, and what has changed and cannot be saved."""
        found: dict[str, dict[str, Any]] = {}
        unsaved: list[str] = []
        for look in self._look_at(self._all):
            place, (_, name) = look.place, look.key
            if look.mark is not None and look.mark != self._first.get(look.key):
                found.setdefault(place, {})[name] = writer.value(look.value)
            changed = [one for one in look.unsaved if self._is_changed(look.key, one)]
            unsaved += [f"{place}.{name.lstrip('.=')}"] * len(changed)
        return found, unsaved

    def restore(self, saved: Mapping[str, Mapping[str, Any]], reader: StateReader) -> None:
        """Read what `save` returned, to be assigned by `reader.apply`.

        Raises:
            ValueError, LookupError, TypeError: it belongs to another program.
        """
        for place, state in saved.items():
            if (holder := self._holders.get(place)) is not None:
                present = holder.values()
                for name, content in state.items():
                    reader.named(content, present.get(name), partial(holder.put, name))

    def _look_at(self, places: Iterable[tuple[str, Holder]]) -> Iterator[_Look]:
        known = self._known()
        for place, holder in places:
            watched = holder in self._watched  # of which arrays of any size are saved
            for name, value in holder.values().items():
                if is_plain(value) or isinstance(value, _KEPT):
                    continue
                if watched and isinstance(value, np.ndarray) and is_stored(value):
                    continue
                writer = StateWriter(known, owners=self.names)
                mark = self._mark(value, writer)
                left = [value] if mark is None else writer.left
                unsaved = [one for one in left if not isinstance(one, _VIEWS)]
                yield _Look(place, (holder, name), value, None if watched else mark, unsaved)

    def _mark(self, value: Any, writer: StateWriter) -> str | None:
        if isinstance(value, np.ndarray) and value.nbytes > _LARGEST_BYTES:
            return None
        if _is_long_and_flat(value):
            return f"{zlib.crc32(pickle.dumps(value))}"
        try:
            content = writer.value(value)
        except Exception:  # noqa: BLE001 - `Skipped`, and whatever an object raises that is looked at
            return None
        return json.dumps([content, [zlib.crc32(array.tobytes()) for array in writer.arrays]])

    def _is_changed(self, key: _Key, value: Any) -> bool:
        before, seen = self._unsaved.get((key, id(value)), (None, ""))
        return value is not before or self._seen_of(value) != seen

    def _seen_of(self, value: Any) -> str:
        """Return a text that changes with an object, as far as that can be seen from outside."""
        if isinstance(value, GeneratorType):
            frame = value.gi_frame
            return f"{frame and (frame.f_lasti, _plain_only(frame.f_locals))}"
        if isinstance(value, Iterator) and not isinstance(value, IOBase):
            left = length_hint(value, -1)
            if left >= 0 or isinstance(value, count):
                return f"{value!r} {left}"
            return f"{time.perf_counter_ns()}"  # of others nothing can be seen: they are taken for changed
        if isinstance(value, CACHED):
            return _seen_of_cache(value)
        if type(value) in QUEUES:
            return f"{value.qsize()}"
        of_keras = isinstance(value, keras.callbacks.Callback)
        if of_keras or type(value).__module__.startswith(_NOT_PICKLED) or type(value) in self._slow:
            return ""
        begun_s = time.perf_counter()
        seen = ""
        with suppress(Exception):  # whatever an object raises that cannot be pickled
            seen = f"{zlib.crc32(pickle.dumps(value))}"
        if time.perf_counter() - begun_s > _LONGEST_S:
            self._slow.add(type(value))
            return ""
        return seen


def _plain_only(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if is_plain(value)}


def _seen_of_cache(cached: Any) -> str:
    """Return a text that changes with a cache, unless a new process is bound to compute the same again."""
    read, changeable = constants_of(cached.__wrapped__), _changeable_in(cached)
    if read is not None and not changeable:
        return f"{read}"
    info = cached.cache_info()
    marks = []
    for one in changeable[:_LONG]:
        with suppress(Exception):  # whatever an object raises that cannot be pickled
            marks.append(zlib.crc32(pickle.dumps(one)))
    return f"{info.misses} {info.currsize} {sorted(marks)}"


def _changeable_in(cached: Any) -> list[Any]:
    """Return the results in a cache that a program may change, as far as CPython shows them.

    Arrays are taken for what is computed once and left alone, such as a table of angles.
    """
    found: list[Any] = []
    for one in gc.get_referents(cached):
        if one is not vars(cached) and one is not cached.__wrapped__:
            found += one.values() if type(one) is dict and len(one) == cached.cache_info().currsize else [one]
    fixed: tuple[type, ...] = (*_ATOMS, tuple, np.generic, np.ndarray, type, FunctionType)
    # A bare object marks where the named arguments in a key begin.
    return [one for one in found if not isinstance(one, fixed) and type(one) is not object]


def constants_of(function: Any, within: tuple[Any, ...] = ()) -> list[Any] | None:
    """Return the globals that a function reads if it evidently computes from them and its arguments alone.

    Args:
        function: of the job.
        within: the functions that call it.

    Returns:
        Numbers and texts, or None where it may read what changes, draw numbers or do more than return.
    """
    if not isinstance(function, FunctionType) or function.__closure__ or len(within) > _DEEPEST:
        return None
    found: list[Any] = []
    for code in _codes_of(function.__code__):
        names = [name for name in code.co_names if name not in vars(str)]
        if set(code.co_names) & _IMPURE or not _only_reads(code):
            return None
        for name in names:
            read = _constants_at(name, function, within)
            if read is None:
                return None
            found += read
    return found


def _constants_at(name: str, function: FunctionType, within: tuple[Any, ...]) -> list[Any] | None:
    """Return what a name in a function's code adds to the constants it reads; None where it may change."""
    present = function.__globals__.get(name, vars(builtins).get(name, _ABSENT))
    if present is _ABSENT:  # an attribute
        return []
    if isinstance(present, ModuleType):
        return [] if present.__name__ in _OF_FUNCTIONS else None
    if type(present) in _ATOMS:
        return [name, present]
    if isinstance(present, (FunctionType, CACHED)):
        inner = getattr(present, "__wrapped__", present)
        return [] if inner in within else constants_of(inner, (*within, function))
    return [] if getattr(present, "__module__", "") in ("builtins", *_OF_FUNCTIONS) else None


def _only_reads(code: CodeType) -> bool:
    """Tell whether code sets nothing outside of itself, and reads no attribute of an argument."""
    before = ""
    for step in dis.get_instructions(code):
        name = step.opname
        if name.startswith(("STORE_GLOBAL", "STORE_ATTR", "DELETE_", "IMPORT_")):
            return False
        of_text = step.argval in vars(str) if isinstance(step.argval, str) else False
        if name in ("LOAD_ATTR", "LOAD_METHOD") and before.startswith("LOAD_FAST") and not of_text:
            return False
        before = name
    return True


def _codes_of(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes_of(constant)


def _is_long_and_flat(value: Any) -> bool:
    """Tell whether a container is one of many numbers or texts, such as a vocabulary."""
    if type(value) not in (list, tuple, dict) or len(value) < _LONG:
        return False
    items = chain(value, value.values()) if isinstance(value, dict) else value
    return all(type(item) in _ATOMS for item in items)

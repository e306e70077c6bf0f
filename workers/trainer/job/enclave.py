"""Process-wide things that each trial sees as its own: arguments, path, environment, streams, modules.

A trial's threads share its enclave: the thread of its attempt, and every thread started from there. Other
threads, such as TensorFlow's own, belong to the only trial in the process, if there is exactly one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol


class _Local(threading.local):
    #: Found faster than a missing attribute.
    enclave: Enclave | None = None


_LOCAL = _Local()
_LIVE: list[Enclave] = []


class Printed(Protocol):
    """Receives a trial's printed text."""

    def write(self, text: str) -> None:
        """Receive printed text."""


class OwnModules(Protocol):
    """A trial's own instances of its job's modules."""

    @property
    def modules(self) -> Mapping[str, ModuleType]:
        """The modules loaded so far, by name."""

    def has_module(self, name: str) -> bool:
        """Tell whether there is a module of this name beside the job."""

    def module_named(self, name: str) -> ModuleType | None:
        """Return a module, loading it if necessary; None if there is none."""

    def load(self, name: str) -> ModuleType:
        """Return a module, executed once."""

    def forget(self) -> None:
        """Release the modules."""


class Enclave:
    """One trial's own part of the process.

    Args:
        printed: receives what the trial prints; None for the process's own streams.
    """

    def __init__(self, printed: Printed | None = None) -> None:
        self.printed = printed
        self.source: OwnModules | None = None
        self.lists: dict[str, list[Any]] = {}
        self.stores: dict[str, MutableMapping[Any, Any]] = {}
        #: What the trial has set on objects that all trials share: by attribute, then by object.
        self.values: defaultdict[str, dict[Any, Any]] = defaultdict(dict)
        #: What a program may set once.
        self.once: dict[str, Any] = {}
        #: What the user should know of what the job did while it was loaded.
        self.notes: list[str] = []
        #: Undone in reverse order when the trial leaves.
        self.ends = ExitStack()

    @contextmanager
    def entered(self) -> Iterator[Enclave]:
        """Make this the enclave of the calling thread and of the threads that it starts."""
        outer, _LOCAL.enclave = _LOCAL.enclave, self
        _LIVE.append(self)
        try:
            with self.ends:
                yield self
        finally:
            _LIVE.remove(self)
            _LOCAL.enclave = outer
            self.source = None

    @contextmanager
    def left(self) -> Iterator[None]:
        """Do not count as a trial of this process until the context ends: its thread only waits."""
        _LIVE.remove(self)
        show_environment(None)
        try:
            yield
        finally:
            _LIVE.append(self)
            show_environment(self)

    def become_program(self, script: Path) -> None:
        """Set up the arguments, path and environment that `python SCRIPT` would have.

        Args:
            script: the job's file.
        """
        self.lists["argv"] = [str(script)]
        self.lists["path"] = [str(script.parent), *_plain(sys.path)]
        if isinstance(_STORE, OwnStore):
            self.stores[_ENVIRON] = dict(_STORE.base)

    def forget_program(self) -> None:
        """Release the job's modules, path, environment and what it has set."""
        if self.source is not None:
            self.source.forget()
        self.lists, self.stores, self.source, self.once = {}, {}, None, {}
        self.values = defaultdict(dict)

    @property
    def alone(self) -> bool:
        """Whether no other trial is in this process."""
        return all(live is self for live in _LIVE)


def current() -> Enclave | None:
    """Return the enclave of the calling thread."""
    found = _LOCAL.enclave
    if found is not None:
        return None if found is _NOBODY else found
    # Not `current_thread()`: for a thread of TensorFlow it makes an object, which looks for the streams.
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    if thread is threading.main_thread():
        return None
    inherited: Enclave | None = getattr(thread, "kerasweep_enclave", None)
    if inherited is not None:
        return inherited
    live = list(_LIVE)
    return live[0] if len(live) == 1 else None


def own_once(base: dict[str, Any]) -> dict[str, Any]:
    """Return where the caller's trial keeps what a program may set once; `base` outside of trials."""
    enclave = current()
    return base if enclave is None else enclave.once


@contextmanager
def outside() -> Iterator[None]:
    """Let the calling thread see what threads without a trial see."""
    inner, _LOCAL.enclave = _LOCAL.enclave, _NOBODY
    try:
        yield
    finally:
        _LOCAL.enclave = inner


def live() -> list[Enclave]:
    """Return the enclaves of the trials in this process."""
    return list(_LIVE)


_NOBODY = Enclave()


class OwnList(list[Any]):
    """A process-wide list, such as `sys.path`, of which each trial has its own copy.

    Args:
        name: in `Enclave.lists`.
        base: what threads without a trial see.
    """

    def __init__(self, name: str, base: list[Any]) -> None:
        super().__init__(base)
        self._name = name

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return list, (_seen(self),)


def _seen(found: OwnList) -> list[Any]:
    enclave = current()
    own = None if enclave is None else enclave.lists.get(found._name)
    return _plain(found) if own is None else own


def _plain(found: list[Any]) -> list[Any]:
    """Return what threads without a trial see of a list."""
    return list.__getitem__(found, slice(None))


def _through(name: str) -> Any:
    plain = getattr(list, name)

    def method(self: OwnList, *args: Any, **named: Any) -> Any:
        enclave = current()
        own = None if enclave is None else enclave.lists.get(self._name)
        return plain(self if own is None else own, *args, **named)

    return method


_OF_LISTS = (
    *("append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"),
    *("__add__", "__contains__", "__delitem__", "__eq__", "__ge__", "__getitem__", "__gt__", "__iadd__"),
    *("__iter__", "__le__", "__len__", "__lt__", "__mul__", "__ne__", "__repr__", "__reversed__"),
    *("__rmul__", "__setitem__"),
)
for _name in _OF_LISTS:
    setattr(OwnList, _name, _through(_name))


class OwnStore(MutableMapping[Any, Any]):
    """A process-wide mapping, such as the data behind `os.environ`, of which each trial has its own copy.

    Args:
        name: in `Enclave.stores`.
        base: what threads without a trial see.
    """

    def __init__(self, name: str, base: MutableMapping[Any, Any]) -> None:
        self._name = name
        self.base = base

    def _own(self) -> MutableMapping[Any, Any]:
        enclave = current()
        return self.base if enclave is None else enclave.stores.get(self._name, self.base)

    def __getitem__(self, key: Any) -> Any:
        return self._own()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._own()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._own()))

    def __len__(self) -> int:
        return len(self._own())

    def copy(self) -> dict[Any, Any]:
        """Return a copy."""
        return dict(self._own())


_ENVIRON = "environ"
_STORE: Any = None


def show_environment(enclave: Enclave | None) -> None:
    """Set the C library's variables, which child processes inherit, to those of a trial; None for the
    process's own. With several trials they are those of the one that set them last.
    """
    if not isinstance(_STORE, OwnStore):
        return
    wanted = _STORE.base if enclave is None else enclave.stores.get(_ENVIRON, _STORE.base)
    for name in (_SHOWN.keys() | wanted.keys()) if wanted != _SHOWN else ():
        if name not in wanted:
            os.unsetenv(name)
        elif _SHOWN.get(name) != wanted[name]:
            os.putenv(name, wanted[name])
    _SHOWN.clear()
    _SHOWN.update(wanted)


_SHOWN: dict[Any, Any] = {}


def install() -> None:
    """Enable enclaves for trials of this process. Call it once."""
    global _STORE
    sys.argv = OwnList("argv", sys.argv)
    sys.path = OwnList("path", sys.path)
    environ: Any = os.environ
    _STORE = OwnStore(_ENVIRON, environ._data)
    environ._data = os.environb._data = _STORE  # type: ignore[attr-defined]
    _SHOWN.update(_STORE.base)
    start: Any = threading.Thread.start

    def start_in_enclave(self: threading.Thread) -> None:
        with contextlib.suppress(AttributeError):
            self.kerasweep_enclave = current()  # type: ignore[attr-defined]
        start(self)

    threading.Thread.start = start_in_enclave  # type: ignore[method-assign]

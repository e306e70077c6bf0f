"""Python's logging, which each trial configures for itself.

Loggers, handlers and the manager that exist without any trial, or that a library asks for, are shared, since
libraries hold references to them: what a trial sets on them is kept in its enclave, and only its threads see
it. Loggers and handlers that a job's own code makes belong to its trial altogether. What a library sets while
it is imported holds for all trials: it is imported only once.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
import weakref
from collections import ChainMap
from collections.abc import Callable, MutableMapping
from logging import Handler, Logger, Manager, PlaceHolder
from typing import Any

from kerasweep.workers.trainer.job.enclave import Enclave, OwnList, OwnStore, current, live, outside, own_once
from kerasweep.workers.trainer.process.callers import calling_library, is_importing_library

#: Marks loggers and handlers that belong to a trial altogether.
_MARK = "_made_by_a_trial"
_MISSING = object()
_OF_LOGGERS = ("level", "propagate", "disabled", "parent", "handlers", "filters")
_OF_HANDLERS = ("level", "formatter", "filters")
_OF_MANAGERS = ("_disable", "loggerClass")
_OPENED, _NAMED, _FACTORY, _CAPTURES = "opened handlers", "named handlers", "record factory", "warnings"
_LEVELS = ("_levelToName", "_nameToLevel")
_OURS = "kerasweep"
_LOGGING: Any = logging


class OwnAttribute:
    """An attribute that has a value for each trial, on objects that trials share.

    Args:
        name: of the attribute.
        own: makes a trial's value from the shared one, if it is changed in place.
    """

    def __init__(self, name: str, own: Callable[[Any], Any] | None = None) -> None:
        self.name = name
        self._own = own

    def __get__(self, owner: Any, _kind: type | None = None) -> Any:
        if owner is None:
            return self
        held = vars(owner)
        if self.name not in held:
            raise AttributeError(f"{type(owner).__name__!r} object has no attribute {self.name!r}")
        enclave = None if _MARK in held else current()
        if enclave is None:
            return held[self.name]
        found = enclave.values[self.name].get(owner, _MISSING)
        return self._first(enclave, owner, held[self.name]) if found is _MISSING else found

    def _first(self, enclave: Enclave, owner: Any, shared: Any) -> Any:
        if self._own is None or (self._own is list and is_importing_library()):
            return shared
        return enclave.values[self.name].setdefault(owner, self._own(shared))

    def __set__(self, owner: Any, value: Any) -> None:
        held = vars(owner)
        if self.name not in held:  # by `__init__`, which begins with the filters
            if self.name == "filters" and current() is not None and calling_library() is None:
                held[_MARK] = True
            held[self.name] = value
            return
        enclave = None if _MARK in held else current()
        if enclave is None or is_importing_library():
            held[self.name] = value
            if enclave is not None:
                enclave.values[self.name].pop(owner, None)
        else:
            enclave.values[self.name][owner] = value


class _OwnCache(OwnAttribute):
    """What a logger has found to be enabled, which depends on the levels that a trial has set."""

    def __get__(self, owner: Any, _kind: type | None = None) -> Any:
        if owner is None:
            return self
        enclave = current()
        if enclave is not None:
            return enclave.values[self.name].setdefault(owner, {})
        return {} if _MARK in vars(owner) else vars(owner)[self.name]


class _Names(ChainMap[str, Any]):
    """The loggers by name, as a trial sees them: its own and the shared ones.

    Args:
        shared: as threads without a trial see them.
    """

    def __init__(self, shared: MutableMapping[str, Any]) -> None:
        super().__init__({}, shared)

    def __getitem__(self, name: str) -> Any:
        own, shared = self.maps
        mine, theirs = own.get(name), shared.get(name)
        if isinstance(theirs, PlaceHolder) and not isinstance(mine, Logger):
            mine = own.setdefault(name, PlaceHolder.__new__(PlaceHolder))
            mine.loggerMap = {**theirs.loggerMap, **getattr(mine, "loggerMap", {})}
        if mine is None or (isinstance(mine, PlaceHolder) and isinstance(theirs, Logger)):
            mine = theirs
        if mine is None:
            raise KeyError(name)
        return mine


def install() -> None:
    """Give each trial its own logging. Call it once, after the libraries are loaded."""
    plain, plain_add, apart = Manager.getLogger, Logger.addHandler, _set_apart()

    def get_logger(self: Manager, name: str) -> Logger:
        known = vars(self)["loggerDict"].get(str(name))
        if isinstance(known, Logger):
            return known
        ours = str(name).partition(".")[0] == _OURS
        if not ours and current() is not None and not _is_shared(self, name):
            return plain(self, name)
        with outside():
            return plain(apart, name) if ours else _shared(plain, self, name)

    def add_handler(self: Logger, handler: Handler) -> None:
        plain_add(self, handler)
        if current() is not None and is_importing_library():
            with outside():  # the importing trial may have a list of its own already
                plain_add(self, handler)

    for kind, names in ((Logger, _OF_LOGGERS), (Handler, _OF_HANDLERS), (Manager, _OF_MANAGERS)):
        for name in names:
            setattr(kind, name, OwnAttribute(name, list if name in ("handlers", "filters") else None))
    setattr(logging.StreamHandler, "stream", OwnAttribute("stream"))  # noqa: B010 - not a stream for mypy
    setattr(Logger, "_cache", _OwnCache("_cache"))  # noqa: B010
    setattr(Manager, "loggerDict", OwnAttribute("loggerDict", _Names))  # noqa: B010
    setattr(Manager, "getLogger", get_logger)  # noqa: B010
    setattr(Logger, "addHandler", add_handler)  # noqa: B010
    _install_lists()
    _install_functions()


def begin(enclave: Enclave) -> None:
    """Let a trial's logging begin as in a new process."""
    enclave.lists[_OPENED] = []
    enclave.stores[_NAMED] = weakref.WeakValueDictionary()
    for name in _LEVELS:
        enclave.stores[name] = dict(getattr(logging, name))


def end(enclave: Enclave) -> None:
    """Flush and close what a trial logged to, as at the end of a process; the handlers of libraries stay."""
    with outside():
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        kept = [handler for one in loggers if isinstance(one, Logger) for handler in one.handlers]
    for opened in reversed(enclave.lists.get(_OPENED, [])):
        if opened() not in kept:
            with contextlib.suppress(Exception):
                logging.shutdown([opened])


def changes(enclave: Enclave) -> dict[Any, Any]:
    """Return what a trial has set, in a form that can be compared later."""
    found: dict[Any, Any] = {}
    for name in (*_OF_LOGGERS, *_OF_HANDLERS, *_OF_MANAGERS, "stream"):
        for owner, value in list(enclave.values[name].items()):
            if value != vars(owner)[name]:
                found[name, owner] = _compared(value)
    own = enclave.values["loggerDict"].get(logging.root.manager)
    for logger in [] if own is None else list(own.maps[0].values()):
        if isinstance(logger, Logger):
            fresh = Logger(logger.name)  # noqa: LOG001 - to compare with, in no tree
            told = {name: _compared(vars(logger)[name]) for name in _OF_LOGGERS if name != "parent"}
            set_ = {name: value for name, value in told.items() if value != vars(fresh)[name]}
            found.update({(name, logger): value for name, value in set_.items()})
    return {**found, **{name: enclave.once.get(name) for name in (_FACTORY, _CAPTURES)}}


def _compared(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [
        (one, one.level, one.formatter, list(one.filters)) if isinstance(one, Handler) else one
        for one in value
    ]


def _is_shared(manager: Manager, name: str) -> bool:
    """Tell whether the caller wants the logger that all trials share: a library, which may keep it.

    One that only passes a job's logger on, such as `copy`, gets the job's.
    """
    library = calling_library()
    if library is None:
        return False
    own = getattr(manager.loggerDict, "maps", [{}])[0].get(name)
    same = library.partition(".")[0] == str(name).partition(".")[0]
    return not isinstance(own, Logger) or same or is_importing_library()


def _shared(plain: Callable[..., Logger], manager: Manager, name: str) -> Logger:
    """Return a shared logger, of which trials may have set one up before its library was imported."""
    with _LOGGING._lock:
        views = [(enclave, enclave.values["loggerDict"].get(manager)) for enclave in live()]
        made = [
            (enclave, view.maps[0].pop(name))
            for enclave, view in views
            if view is not None and isinstance(view.maps[0].get(name), Logger)
        ]
        if not made:
            return plain(manager, name)
        shared = made[0][1]
        for enclave, logger in made:
            for attribute in _OF_LOGGERS:
                enclave.values[attribute][shared] = vars(logger)[attribute]
        del vars(shared)[_MARK]
        Logger.__init__(shared, name)
        before, manager.loggerClass = manager.loggerClass, lambda _: shared  # type: ignore[assignment]
        try:
            return plain(manager, name)
        finally:
            manager.loggerClass = before


def _set_apart() -> Manager:
    """Move the loggers of kerasweep to a tree of their own, so that no job's settings reach them."""
    apart = Manager(logging.RootLogger(logging.WARNING))
    known = logging.root.manager.loggerDict
    for name in [name for name in known if name.partition(".")[0] == _OURS]:
        found = apart.loggerDict[name] = known.pop(name)
        if isinstance(found, Logger):
            found.manager = apart
            if found.parent is logging.root:
                found.parent = apart.root
    return apart


def _install_lists() -> None:
    """Let `dictConfig` and `shutdown` close only the handlers of their own trial."""
    opened = _LOGGING._handlerList = OwnList(_OPENED, _LOGGING._handlerList)
    logging.shutdown.__defaults__ = (opened,)
    for name in _LEVELS:
        setattr(logging, name, OwnStore(name, getattr(logging, name)))
    _LOGGING._handlers = OwnStore(_NAMED, _LOGGING._handlers)


def _install_functions() -> None:
    """Replace the functions that set something for the whole process."""
    manager = logging.root.manager
    _LOGGING.setLoggerClass = manager.setLoggerClass
    _LOGGING.getLoggerClass = lambda: manager.loggerClass or _LOGGING._loggerClass
    _install_factory()
    _install_warnings()


def _install_factory() -> None:
    base = {_FACTORY: logging.getLogRecordFactory()}

    def make_record(*args: Any, **named: Any) -> Any:
        return logging.getLogRecordFactory()(*args, **named)

    def set_factory(factory: Any) -> None:
        own_once(base)[_FACTORY] = factory
        _LOGGING._logRecordFactory = make_record

    _LOGGING.setLogRecordFactory = set_factory
    _LOGGING.getLogRecordFactory = lambda: own_once(base).get(_FACTORY, base[_FACTORY])


def _install_warnings() -> None:
    capture, show = logging.captureWarnings, warnings.showwarning

    def show_warning(*args: Any, **named: Any) -> None:
        enclave = current()
        captured = enclave is not None and enclave.once.get(_CAPTURES)
        (_LOGGING._showwarning if captured else show)(*args, **named)

    def capture_warnings(captured: bool) -> None:
        enclave = current()
        if enclave is None:
            capture(captured)
        else:
            enclave.once[_CAPTURES] = captured
            warnings.showwarning = show_warning

    _LOGGING.captureWarnings = capture_warnings

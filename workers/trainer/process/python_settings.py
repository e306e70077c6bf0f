"""Settings of Python and of libraries for the whole process that change no computation: read and restored.

Settings of a thread need neither, since a trial has its own: `np.seterr`, `np.set_printoptions`, contexts of
`decimal`, and on Linux `os.nice` and, with the current folder, `os.umask`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import locale
import logging
import resource
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Setting = tuple[Callable[[], Any], Callable[[Any], object]]

#: Whether each thread has its own `np.set_printoptions`, as since NumPy 2.2.
_PRINTS_BY_THREAD = hasattr(getattr(np, "_core", None), "printoptions")
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


def _set_collecting(on: bool) -> None:
    (gc.enable if on else gc.disable)()


def _set_faults(on: bool) -> None:
    (faulthandler.enable if on else faulthandler.disable)()


def _set_limits(soft: list[int]) -> None:
    for limit, wanted in zip(_LIMITS, soft, strict=True):
        now, hard = resource.getrlimit(limit)
        if now != wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, (wanted, hard))


def _set_attributes(found: list[Any]) -> None:
    for (owner, name), value in zip(_ATTRIBUTES, found, strict=True):
        if getattr(owner, name, None) is not value:
            setattr(owner, name, value)


def read_limits() -> list[int]:
    """Return the hard limits of the process, which cannot be raised again."""
    return [resource.getrlimit(limit)[1] for limit in _LIMITS]


_ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    *((sys, name) for name in ("excepthook", "unraisablehook", "displayhook")),
    *((threading, "excepthook"), (warnings, "showwarning"), (warnings, "formatwarning")),
    *((logging, name) for name in ("raiseExceptions", "lastResort", "_srcfile")),
    *((logging, name) for name in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")),
    *((logging.Formatter, name) for name in ("converter", "default_time_format", "default_msec_format")),
    (tempfile, "tempdir"),
)
_SETTINGS: tuple[Setting, ...] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (gc.isenabled, _set_collecting),
    (gc.get_threshold, lambda thresholds: gc.set_threshold(*thresholds)),
    (gc.get_debug, gc.set_debug),
    (faulthandler.is_enabled, _set_faults),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    # By then the environment, with its TZ, is the process's own again.
    (lambda: (time.timezone, time.altzone, time.tzname), lambda _: time.tzset()),
    (lambda: [resource.getrlimit(limit)[0] for limit in _LIMITS], _set_limits),
    *(() if _PRINTS_BY_THREAD else ((np.get_printoptions, lambda found: np.set_printoptions(**found)),)),
    (lambda: [getattr(*one, None) for one in _ATTRIBUTES], _set_attributes),
)


def read() -> list[Any]:
    """Return the present settings."""
    with contextlib.suppress(OSError):
        tempfile.gettempdir()  # found once for all trials
    return [get() for get, _ in _SETTINGS]


def put_back(settings: list[Any]) -> None:
    """Restore settings that `read` returned, and the options of pandas."""
    for (get, put), wanted in zip(_SETTINGS, settings, strict=True):
        if get() != wanted:
            put(wanted)
    _put_pandas_back()


def _put_pandas_back() -> None:
    """Restore the options of pandas to their defaults, if a job has loaded it."""
    found: Any = sys.modules.get("pandas._config.config")
    if found is None:
        return
    with contextlib.suppress(AttributeError):  # of another version
        for name, option in found._registered_options.items():
            group, key = found._get_root(name)
            if group[key] is not option.defval and group[key] != option.defval:
                group[key] = option.defval
                if option.cb is not None:
                    option.cb(name)

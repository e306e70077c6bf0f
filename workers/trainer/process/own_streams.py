"""`sys.stdout`, `sys.stderr` and `sys.stdin`, which each trial may replace for itself."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from kerasweep.workers.trainer.job.enclave import Enclave, own_once

_NAMES = ("stdout", "stderr", "stdin")


class _Sys(ModuleType):
    """The module `sys`: setting a stream in a trial's thread sets the trial's."""

    def __reduce__(self) -> Any:
        return importlib.import_module, ("sys",)


class _Entry:
    """What `print` finds: it hands everything on to the stream of the calling thread's trial.

    Args:
        name: of the stream.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        stream = getattr(sys, self._name)
        return getattr(_nowhere() if stream is None else stream, attribute)


def install() -> None:
    """Let trials replace the streams for themselves. Call it once, with the process's streams in place."""
    for name in _NAMES:
        base = {name: getattr(sys, name)}
        setattr(_Sys, name, _stream(name, base))
        vars(sys)[name] = _Entry(name)
    sys.__class__ = _Sys


def end(enclave: Enclave) -> None:
    """Flush the streams that a trial has put in place, as at the end of a process."""
    for name in _NAMES:
        with contextlib.suppress(Exception):
            enclave.once[name].flush()


def _stream(name: str, base: dict[str, Any]) -> property:
    return property(
        lambda _: own_once(base).get(name, base[name]),
        lambda _, stream: own_once(base).update({name: stream}),
    )


def _nowhere() -> Any:
    """Return where `print` writes if there is no stream."""
    if not _NOWHERE:
        _NOWHERE.append(open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    return _NOWHERE[0]


_NOWHERE: list[Any] = []

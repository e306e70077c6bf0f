"""The end of a trial, for what a program leaves to the end of its process."""

from __future__ import annotations

import atexit
import gc
import sys
import traceback
from collections.abc import Callable
from typing import Any

from kerasweep.workers.trainer.job.enclave import Enclave, current
from kerasweep.workers.trainer.process.callers import calling_library

_ENDINGS = "endings"


def install() -> None:
    """Let a trial end with what its job registered with `atexit`. Call it once.

    What a library registers stays until the end of the process: it does so once for all trials.
    """
    register, unregister = atexit.register, atexit.unregister

    def own_register(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
        enclave = current()
        if enclave is None or calling_library() is not None:
            return register(function, *args, **named)
        enclave.lists.setdefault(_ENDINGS, []).append((function, args, named))
        return function

    def own_unregister(function: Callable[..., Any]) -> None:
        enclave = current()
        if enclave is not None:
            known = enclave.lists.get(_ENDINGS, [])
            known[:] = [ending for ending in known if ending[0] != function]
        unregister(function)

    vars(atexit).update(register=own_register, unregister=own_unregister)
    for name in ("freeze", "unfreeze"):
        setattr(gc, name, _only_outside(getattr(gc, name)))


def run_endings(enclave: Enclave) -> None:
    """Call what a trial's job registered with `atexit`, the last one first."""
    endings = enclave.lists.get(_ENDINGS, [])
    while endings:
        function, args, named = endings.pop()
        try:
            function(*args, **named)
        except BaseException:  # noqa: BLE001 - as at the end of a process, which nothing of it reaches
            sys.stderr.write(f"Exception ignored in atexit callback {function!r}:\n")
            traceback.print_exc()


def _only_outside(plain: Callable[[], None]) -> Callable[[], None]:
    """Keep trials from a function that makes the objects of all permanent, or none."""
    return lambda: plain() if current() is None else None

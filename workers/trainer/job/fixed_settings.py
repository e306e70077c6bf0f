"""Settings that a script can make and a trial cannot: left out, and the trial says so, or made its own.

TensorFlow takes devices and threads only before it starts. Python leaves signals and an event loop to the
main thread, and a start method is set once in a process.
"""

from __future__ import annotations

import asyncio
import multiprocessing.context
import signal
import threading
from collections.abc import Callable
from typing import Any

from tensorflow.python.eager import context

from kerasweep.workers.trainer.job.enclave import Enclave, current

_METHODS = ("set_visible_devices", "set_memory_growth", "set_logical_device_configuration")
_THREADS = ("intra_op_parallelism_threads", "inter_op_parallelism_threads")
_HAS_STARTED = RuntimeError
#: Functions of `signal`, and what they return where they do nothing.
_OF_SIGNALS = {"signal": signal.SIG_DFL, "set_wakeup_fd": -1, "alarm": 0, "setitimer": (0.0, 0.0)}
_START = "start method"
_NOTE = (
    "the job's signal handlers and alarms are left out: signals belong to the trainer, not to its trials; "
    "an interrupted trial resumes from its checkpoint"
)


def install() -> None:
    """Let jobs set what only a script may. Call it once, after the devices are set up."""
    _install_process()
    owner = context.Context
    for name in _METHODS:
        setattr(owner, name, _tolerant(getattr(owner, name), name))
    for name in _THREADS:
        plain = vars(owner)[name]
        setattr(owner, name, property(plain.fget, _tolerant(plain.fset, f"set_{name}")))


def _tolerant(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
    def setting(*args: Any, **named: Any) -> Any:
        try:
            return plain(*args, **named)
        except _HAS_STARTED:
            enclave = current()
            if enclave is None:
                raise
            enclave.notes.append(
                f"the job's {name} is left out: this trainer has started TensorFlow already; "
                "`kerasweep worker` sets devices and threads (--gpus, --threads)"
            )
            return None

    return setting


def _install_process() -> None:
    """Let jobs set signal handlers and a start method, and ask for an event loop."""
    for name, nothing in _OF_SIGNALS.items():
        setattr(signal, name, _left_out(getattr(signal, name), nothing))
    _install_start_methods()
    plain = asyncio.get_event_loop

    def get_event_loop() -> asyncio.AbstractEventLoop:
        try:
            return plain()
        except RuntimeError:
            enclave = _of_this_thread()
            if enclave is None:
                raise
            return _new_loop(enclave)

    asyncio.get_event_loop = asyncio.events.get_event_loop = get_event_loop


def _install_start_methods() -> None:
    """Give each trial a start method of its own, as `multiprocessing.set_start_method` sets it."""
    default: Any = multiprocessing.context.DefaultContext
    base: dict[str, Any] = {_START: vars(multiprocessing.context._default_context)["_actual_context"]}

    def own() -> dict[str, Any]:
        enclave = current()
        return base if enclave is None else enclave.once

    method = property(lambda _: own().get(_START), lambda _, found: own().update({_START: found}))
    default._actual_context = method


def _of_this_thread() -> Enclave | None:
    """Return the trial of the calling thread; None in the main thread, as that of a child process."""
    return None if threading.current_thread() is threading.main_thread() else current()


def _left_out(plain: Callable[..., Any], nothing: Any) -> Callable[..., Any]:
    def setting(*args: Any, **named: Any) -> Any:
        enclave = _of_this_thread()
        if enclave is None:
            return plain(*args, **named)
        enclave.notes.append(_NOTE)
        return nothing

    return setting


def _new_loop(enclave: Enclave) -> asyncio.AbstractEventLoop:
    """Return an event loop of the trial's own, closed when the trial leaves."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    enclave.ends.callback(loop.close)
    enclave.ends.callback(asyncio.set_event_loop, None)
    return loop

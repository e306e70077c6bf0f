"""Settings that a script can make and a trial cannot: left out, and the trial says so, or made its own.

TensorFlow takes devices and threads only before it starts. Python leaves signals and an event loop to the
main thread, and a start method is set once in a process; absl and TensorFlow refuse to register a name twice,
so each trial adds flags, gradients and types of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing.context
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags
from tensorflow.python.eager import context
from tensorflow.python.framework import ops, type_spec_registry

from kerasweep.workers.trainer.job.enclave import Enclave, current, own_once

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
    _install_registries()
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

    method = property(
        lambda _: own_once(base).get(_START), lambda _, found: own_once(base).update({_START: found})
    )
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


_PLAIN_DICT = vars(flags.FlagValues)["__dict__"]


class OwnFlags(flags.FlagValues):
    """The flags of absl, which keep all that they know in their `__dict__`: a trial has a copy."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        base: dict[str, Any] = _PLAIN_DICT.__get__(self)
        enclave = current()
        if enclave is None:
            return base
        own = enclave.once.get("flags")
        if own is None:
            own = enclave.once["flags"] = {name: _copied(value) for name, value in base.items()}
        found: dict[str, Any] = own
        return found


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return value.copy() if isinstance(value, (list, set)) else value


class OwnEntries(dict[Any, Any]):
    """A registry to which each trial adds entries that only it sees.

    Args:
        name: in `Enclave.once`.
        base: what all see.
    """

    def __init__(self, name: str, base: dict[Any, Any]) -> None:
        super().__init__(base)
        self._name = name

    def _own(self) -> dict[Any, Any] | None:
        enclave = current()
        return None if enclave is None else enclave.once.setdefault(self._name, {})

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in (self._own() or ())

    def __getitem__(self, key: Any) -> Any:
        own = self._own() or {}
        return own[key] if key in own else super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        own = self._own()
        if own is None:
            super().__setitem__(key, value)
        else:
            own[key] = value

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield from self._own() or ()


def _install_registries() -> None:
    object.__setattr__(flags.FLAGS, "__class__", OwnFlags)
    gradients: Any = ops.gradient_registry
    gradients._registry = OwnEntries("gradients", gradients._registry)
    for name in ("_NAME_TO_TYPE_SPEC", "_TYPE_SPEC_TO_NAME"):
        setattr(type_spec_registry, name, OwnEntries(name, getattr(type_spec_registry, name)))

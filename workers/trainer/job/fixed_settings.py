"""Settings that TensorFlow takes only before it starts: a job's are left out, and the trial says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorflow.python.eager import context

from kerasweep.workers.trainer.job.enclave import current

_METHODS = ("set_visible_devices", "set_memory_growth", "set_logical_device_configuration")
_THREADS = ("intra_op_parallelism_threads", "inter_op_parallelism_threads")
_HAS_STARTED = RuntimeError


def install() -> None:
    """Let jobs set what cannot be set any more. Call it once, after the devices are set up."""
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

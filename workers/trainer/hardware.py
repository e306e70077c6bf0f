"""The devices of this trainer, and one strategy for the trials that train on several of them."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.trial import FailureClass


class Devices:
    """The devices of this process. Create it before anything else touches TensorFlow.

    Args:
        threads: how many operations may run at once, each on one thread; 0 for the number of cores.
        logical_cpus: the number of CPU devices: more than one only to try several replicas without GPUs.
    """

    def __init__(self, threads: int = 0, logical_cpus: int = 1) -> None:
        tf.config.experimental.enable_op_determinism()
        # A convolution's gradient is summed in as many parts as it has threads: with one, its bits are the
        # same on every machine. Concurrent trials use the cores, in half of the core time.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(threads or len(os.sched_getaffinity(0)))
        if logical_cpus > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus
            )
        for gpu in tf.config.list_physical_devices("GPU"):
            # Without this the first trainer takes all of the memory, whatever its trials need.
            tf.config.experimental.set_memory_growth(gpu, True)
        gpus = tf.config.list_logical_devices("GPU")
        self.kind = "GPU" if gpus else "CPU"
        self.names = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
        self._strategies: dict[int, Any] = {}

    def strategy(self, gpus: int) -> Any | None:
        """Return the strategy for a trial of `gpus` devices; None for one.

        Raises:
            JobError: this trainer has fewer.
        """
        if gpus < 2:
            return None
        if gpus > len(self.names):
            raise JobError(
                FailureClass.USER,
                f"resources.gpus must not be above the devices of a trainer, got {gpus} of "
                f"{len(self.names)}; start workers with enough GPUs for each trial",
            )
        if gpus not in self._strategies:
            self._strategies[gpus] = tf.distribute.MirroredStrategy(self.names[:gpus])
        return self._strategies[gpus]

    @functools.cached_property
    def description(self) -> str:
        """The device description for results: the model's name, and the number of devices."""
        if self.kind == "GPU":
            details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
            return f"{len(self.names)} × {details.get('device_name', 'GPU')}"
        return f"{_cpu_name()}, {tf.config.threading.get_inter_op_parallelism_threads()} threads"


def scope_of(strategy: Any | None) -> AbstractContextManager[Any]:
    """Return the strategy's scope, or a context that does nothing."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    found = {"python": platform.python_version()}
    for package, names in _PACKAGES.items():
        for name in names:
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[package] = metadata.version(name)
                break
    return found


_PACKAGES = {
    "kerasweep": ("kerasweep",),
    "keras": ("keras",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "numpy": ("numpy",),
}


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

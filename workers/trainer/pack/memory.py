"""Limits how many trials train at once in this process: as many as memory allows, fewer after running out of
it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import tensorflow as tf

from kerasweep.jobs.kernel import free_bytes, rss_bytes
from kerasweep.workers.trainer.engine import Interrupted
from kerasweep.workers.trainer.state.run import TrialRun

#: The fraction of the memory free at the start that trials may use.
MEMORY_SHARE = 0.7
_WAIT_S = 0.2


class MemoryGate:
    """Admits runs while there is memory for one more. Safe to share between threads.

    Args:
        limit_bytes: the memory that this process may use on its device.
        used_bytes: returns its current use.
        free_bytes: returns the free memory; None if nothing else uses it.
    """

    def __init__(
        self, limit_bytes: int, used_bytes: Callable[[], int], free_bytes: Callable[[], int] | None = None
    ) -> None:
        self.limit_bytes = limit_bytes
        self._used_bytes = used_bytes
        self._free_bytes = free_bytes
        self._changed = threading.Condition()
        self._inside = 0
        self._most: int | None = None
        self._idle_bytes = used_bytes()
        self._run_bytes = 0

    @contextmanager
    def enter(self, run: TrialRun, bytes_at_least: int) -> Iterator[None]:
        """Wait for memory, and hold it until the context ends.

        Args:
            run: the waiting run.
            bytes_at_least: the size of its variables; the real use of runs is measured.

        Raises:
            Interrupted: the run was asked to stop while it waited.
        """
        with self._changed:
            while not self._has_room(bytes_at_least):
                if run.stop.leaving:
                    raise Interrupted
                run.pulse.beat(0)  # a waiting run is not stuck
                self._changed.wait(_WAIT_S)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._measure()
                self._inside -= 1
                self._changed.notify_all()

    def halve(self) -> int:
        """Admit half as many from now on, since memory ran out. Return the number."""
        with self._changed:
            self._most = max(1, self._inside // 2)
            return self._most

    def _has_room(self, bytes_at_least: int) -> bool:
        if self._inside == 0:
            return True
        if self._most is not None and self._inside >= self._most:
            return False
        self._measure()
        wanted = max(bytes_at_least, self._run_bytes)
        if self._free_bytes is not None and wanted > MEMORY_SHARE * self._free_bytes():
            return False  # other trainers have taken their share since the start
        return self._used_bytes() + wanted <= self.limit_bytes

    def _measure(self) -> None:
        """Measure what a run uses: the use beyond the idle process, divided among those inside."""
        if self._inside:
            grown = max(0, self._used_bytes() - self._idle_bytes)
            self._run_bytes = max(self._run_bytes // 2, grown // self._inside)


def measured_gate(gpu: bool) -> MemoryGate:
    """Return the gate for the memory free now, on top of what this process already uses."""
    if gpu:
        return MemoryGate(int(_gpu_bytes() * MEMORY_SHARE), gpu_used_bytes)
    return MemoryGate(rss_bytes() + int(free_bytes() * MEMORY_SHARE), rss_bytes, free_bytes)


def gpu_used_bytes() -> int:
    """Return the memory that this process uses on its first GPU, in bytes."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["current"])


def _gpu_bytes() -> int:
    """Return the GPU's memory; with memory growth, TensorFlow only reports what it uses."""
    from tensorflow.python.client import device_lib

    sizes = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return int(min(sizes)) if sizes else 0

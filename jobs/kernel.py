"""Memory, processor time and process information from the kernel."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
_GROUP = Path("/sys/fs/cgroup")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_USER, _SYSTEM, _STARTED = 11, 12, 19
_DEAD = frozenset("ZXx")
#: Kills count as recent for once to twice as long.
_RECENT_S = 5.0

#: The environment variable that marks every process a trainer starts: a job's children inherit it.
LIFE = "KERASWEEP_LIFE"


class ProcessKind(StrEnum):
    """The kinds of process that register in the store; a run keeps both a scheduler and a worker."""

    WORKER = "worker"
    SCHEDULER = "scheduler"
    RUN = "run"


def kernel_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory, on this machine or in this
    container.
    """
    for path in _COUNTERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


class KernelKills:
    """Whether the kernel has just killed a process for lack of memory.

    The counter is the machine's or the container's, and says nothing of when: a kill of another program hours
    ago must not explain every later death.

    Args:
        count: returns how many there were so far.
        clock: returns seconds.
    """

    def __init__(
        self, count: Callable[[], int] = kernel_kills, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count, self._clock = count, clock
        self._before = self._last = count()
        self._looked_at_s = clock()

    def look(self) -> None:
        """Take note of the counter, to be called now and then while all is well."""
        if self._clock() - self._looked_at_s > _RECENT_S:
            self._before, self._last = self._last, self._count()
            self._looked_at_s = self._clock()

    @property
    def recent(self) -> bool:
        """Whether there was one within about the last ten seconds: a large process takes some to end."""
        return self._count() > self._before


def free_bytes() -> int:
    """Return the free memory of the machine, or of the control group that this process is in."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _GROUP / "memory.max", _GROUP / "memory.current"
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def rss_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in seconds; 0 if it is gone."""
    try:
        fields = _stat(pid)
    except OSError:
        return 0.0
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / float(os.sysconf("SC_CLK_TCK"))


def end_life(life: str) -> None:
    """End every process marked as started by a trainer, including those that its guard missed."""
    mark = f"{LIFE}={life}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def exit_at_once(code: int) -> NoReturn:
    """End this process without taking the interpreter apart, which takes half a second."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def process_mark(pid: int | None = None) -> str | None:
    """Return an identifier of a process that is unique across machines and time, or None.

    A process number is not enough: it is reused, and means another process on another machine or in another
    container.
    """
    pid = os.getpid() if pid is None else pid
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
        return f"{_BOOT.read_text().strip()}/{space}/{pid}/{_stat(pid)[_STARTED]}"
    except OSError:
        return None


def has_ended(mark: str | None) -> bool:
    """Tell whether the process with that mark has ended; False if it cannot be known from here."""
    here = process_mark()
    if mark is None or here is None or mark.split("/")[:2] != here.split("/")[:2]:
        return False
    pid = int(mark.split("/")[2])
    try:
        os.kill(pid, 0)
        return process_mark(pid) != mark or _stat(pid)[0] in _DEAD
    except PermissionError:
        return False  # belongs to another user
    except OSError:
        return True


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` after the name, which may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

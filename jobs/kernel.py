"""What the kernel says about memory and processor time."""

from __future__ import annotations

import os
from pathlib import Path

_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
_GROUP = Path("/sys/fs/cgroup")
_USER, _SYSTEM = 11, 12


def kernel_kills() -> int:
    """Return how many processes the kernel has ended so far for want of memory, here or in this container."""
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


def free_bytes() -> int:
    """Return what the machine, or the control group that this process is in, has free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit, used = _GROUP / "memory.max", _GROUP / "memory.current"
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken so far, in seconds; 0 for one that is gone."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = content.rpartition(")")[2].split()  # a process's name may hold anything
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / float(os.sysconf("SC_CLK_TCK"))

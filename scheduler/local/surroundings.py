"""What a process was started with: processes kept warm train a sweep only if it is the same for both.

A job sees its trainer's environment, and installed packages are imported once in the life of a trainer. So a
run joins earlier processes only where a fresh one would have started with the same.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from kerasweep.jobs.kernel import process_mark

#: Variables that name the terminal or the last command; nothing that trains depends on them.
_OF_THE_TERMINAL = {
    *("_", "OLDPWD", "PWD", "SHLVL", "COLUMNS", "LINES", "KERASWEEP_KEEP_WARM"),
    *("GPG_TTY", "STY", "TMUX", "TMUX_PANE", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "XDG_SESSION_ID"),
    *("ITERM_SESSION_ID", "TERM_SESSION_ID", "VTE_VERSION", "WINDOWID", "WT_SESSION"),
}
_LIMITS = tuple(sorted(name for name in vars(resource) if name.startswith("RLIMIT_")))


def surroundings(worker_flags: Sequence[str], environ: Mapping[str, str], salt: str) -> dict[str, str]:
    """Return digests of everything that a worker and its trainers take over from their start, by name.

    Args:
        worker_flags: the worker's flags.
        environ: the worker's environment.
        salt: makes digests of secrets useless elsewhere.
    """
    facts = {f"${name}": value for name, value in environ.items() if name not in _OF_THE_TERMINAL}
    facts |= {
        "worker options": repr(list(worker_flags)),
        "current folder": str(Path.cwd()),
        "Python": f"{sys.executable} {sys.version}",
        "installed packages": repr(list(_package_times())),
        "limits": repr(_limits()),
        "machine": repr((process_mark() or "").split("/")[:2]),
    }
    return {name: hashlib.sha256(f"{salt}{value}".encode()).hexdigest()[:16] for name, value in facts.items()}


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names of what differs."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _package_times() -> Iterator[tuple[str, int]]:
    """Yield when packages were last installed or removed, and when our own code last changed, in ns."""
    for name in ("purelib", "platlib"):
        folder = Path(sysconfig.get_paths()[name])
        if folder.is_dir():
            yield str(folder), folder.stat().st_mtime_ns
    for package in ("jobs", "scheduler", "workers"):
        found = find_spec(f"kerasweep.{package}")
        for path in (found.submodule_search_locations or []) if found else []:
            yield path, max(file.stat().st_mtime_ns for file in Path(path).rglob("*.py"))


def _limits() -> object:
    """Return the processors, the priority, the mask of new files and the resource limits of this process."""
    mask = os.umask(0o077)
    os.umask(mask)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores, os.nice(0), mask, [resource.getrlimit(getattr(resource, name)) for name in _LIMITS]

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
from itertools import islice
from pathlib import Path

from kerasweep.jobs.kernel import process_mark

#: Variables that name the terminal or the last command; nothing that trains depends on them.
_OF_THE_TERMINAL = {
    *("_", "OLDPWD", "PWD", "SHLVL", "COLUMNS", "LINES", "KERASWEEP_KEEP_WARM"),
    *("GPG_TTY", "STY", "TMUX", "TMUX_PANE", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "XDG_SESSION_ID"),
    *("ITERM_SESSION_ID", "TERM_SESSION_ID", "VTE_VERSION", "WINDOWID", "WT_SESSION"),
}
_MOST_FILES = 5000
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
        "installed packages": repr(list(_package_times(environ))),
        "limits": repr(_limits()),
        "machine": repr((process_mark() or "").split("/")[:2]),
    }
    return {name: hashlib.sha256(f"{salt}{value}".encode()).hexdigest()[:16] for name, value in facts.items()}


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names of what differs."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _package_times(environ: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield when packages were last installed, and when code elsewhere on the path last changed, in ns."""
    installed = Path(sysconfig.get_paths()["purelib"])
    named = [*environ.get("PYTHONPATH", "").split(os.pathsep), *_editable(), *_linked(installed)]
    for path in [installed, *map(Path, filter(None, named))]:
        if path.name.endswith("-packages") and path.exists():
            yield str(path), path.stat().st_mtime_ns
        elif path.exists():
            yield str(path), max((file.stat().st_mtime_ns for file in _code_in(path)), default=0)


def _editable() -> Iterator[str]:
    """Yield where packages lie that were installed with `pip install -e`, as setuptools notes it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            yield from getattr(module, "MAPPING", {}).values()


def _linked(installed: Path) -> Iterator[str]:
    """Yield the folders that path files name."""
    for file in sorted(installed.glob("*.pth")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        yield from (line.strip() for line in lines if Path(line.strip()).is_absolute())


def _code_in(path: Path) -> Iterator[Path]:
    """Yield the Python files of a folder, up to some number, or a single module."""
    found = (file for file in path.rglob("*.py") if file.is_file()) if path.is_dir() else iter([path])
    return islice(found, _MOST_FILES)


def _limits() -> object:
    """Return the processors, the priority, the mask of new files and the resource limits of this process."""
    mask = os.umask(0o077)
    os.umask(mask)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores, os.nice(0), mask, [resource.getrlimit(getattr(resource, name)) for name in _LIMITS]

"""A trial's working folder: a copy of the job's files, and the files that the trial writes by relative path.

On Linux a thread may have a current folder that other threads do not share (`unshare(CLONE_FS)`, which needs
no privilege), and the threads that it starts share it. TensorFlow's threads keep the process's: a copy of the
job's files that belongs to no trial.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import threading
from pathlib import Path

_CLONE_FS = 0x200
#: Files up to this size are copied for each trial; larger ones are linked read-only.
COPIED_BYTES = 1 << 20
_DONE = threading.local()


def fill(folder: Path, bundle: Path) -> None:
    """Put a job's files into a folder, unless they are already there.

    Small files are copied; a large one is a link to a single read-only copy.

    Args:
        folder: created if necessary.
        bundle: the job's files.
    """
    for base, folders, files in os.walk(bundle):
        folders[:] = [name for name in folders if name != "__pycache__"]
        target = folder / os.path.relpath(base, bundle)
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            _put(Path(base, name), target / name)


def _put(source: Path, target: Path) -> None:
    if os.path.lexists(target):
        return
    if source.stat().st_size > COPIED_BYTES:
        with contextlib.suppress(OSError):
            source.chmod(0o444)
        target.symlink_to(source)
    else:
        target.write_bytes(source.read_bytes())
        times = source.stat()
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))  # by which a changed one is told


def leave_the_process_in(folder: Path) -> None:
    """Make a folder the current one of the process, and of threads without one of their own."""
    if not getattr(_DONE, "unshared", False):
        os.chdir(folder)


def work_in(folder: Path) -> bool:
    """Make a folder the current one of only this thread and those that it will start.

    Returns:
        False if the system has no per-thread folders, so that the whole process has changed.
    """
    alone = getattr(_DONE, "unshared", False) or _unshare()
    _DONE.unshared = alone
    os.chdir(folder)
    return alone


def _unshare() -> bool:
    if sys.platform != "linux" or threading.current_thread() is threading.main_thread():
        return False
    return int(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_FS)) == 0


def remove(folder: Path) -> None:
    """Remove a trial's folder."""
    shutil.rmtree(folder, ignore_errors=True)

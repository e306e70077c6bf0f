"""A private folder for the life of this process, even if it is killed: the next process cleans up.

A killed process removes nothing. So its folder contains a lock, which is released when it dies, and the next
process removes the folders whose lock is free. Unlike process numbers, this also works between containers
that share a temporary folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "kerasweep-worker-"
_LOCK = "lock"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a private folder, removed at the end; processes started from here use it for temporary files."""
    _tidy(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = os.open(folder / "lock.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(folder / "lock.new", folder / _LOCK)  # locked before anyone can find it
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _tidy(temporary: Path) -> None:
    """Remove the folders of processes that are gone."""
    for folder in temporary.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # being created or removed right now, or belongs to another user
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:  # its owner is alive
            pass
        finally:
            os.close(lock)

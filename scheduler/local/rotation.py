"""Logs of `kerasweep run` that stay small: the newest part, and one older."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

#: A log that has grown beyond this is set aside as `NAME.1`, in place of the one before.
LARGEST_BYTES = 4 << 20


def rotate(log: Path, largest: int = LARGEST_BYTES) -> bool:
    """Set a log aside if it has grown too large; return whether it was.

    The process that writes it holds it open, to append: so it is copied and cut to nothing, and what is
    written in between is lost.
    """
    with contextlib.suppress(OSError):  # a log that cannot be set aside, on a full disk, must end nothing
        if log.stat().st_size > largest:
            try:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            finally:
                os.truncate(log, 0)
            return True
    return False

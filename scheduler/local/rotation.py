"""Keeps the logs of `kerasweep run` small: the current part and one older part."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

#: A log larger than this is moved to `NAME.1`, replacing the previous one.
LARGEST_BYTES = 4 << 20


def rotate(log: Path, largest: int = LARGEST_BYTES) -> bool:
    """Rotate a log if it has grown too large; return whether it was.

    The process that writes it has it open for appending, so it is copied and truncated; what is written in
    between is lost.
    """
    with contextlib.suppress(OSError):  # failing to rotate a log, as on a full disk, must not stop anything
        if log.stat().st_size > largest:
            try:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            finally:
                os.truncate(log, 0)
            return True
    return False

"""Whose code is running: a job's own or a library's."""

from __future__ import annotations

import sys
from types import FrameType

from kerasweep.workers.trainer.job.facade import is_facade

#: Frames of these modules stand between a setting and the code that makes it.
_BETWEEN = frozenset(
    {
        *("logging", "logging.config", "logging.handlers", __name__),
        *(f"{__package__}.own_logging", f"{__package__}.endings"),
    }
)


def calling_library() -> str | None:
    """Return the name of the library's module that makes a setting; None if a job's own code makes it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    if frame is None:
        return ""
    return str(frame.f_globals.get("__name__")) if _is_library(frame) else None


def is_importing_library() -> bool:
    """Tell whether a library is just being imported: what it does then, it does once for all trials."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    if frame is None or not getattr(frame.f_globals.get("__spec__"), "_initializing", False):
        return False
    return _is_library(frame)


def _is_library(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    module = sys.modules.get(str(name))
    return module is not None and not is_facade(str(name)) and vars(module) is frame.f_globals

"""Rate-limited log messages about malformed input, so that a flood cannot fill the disk."""

from __future__ import annotations

import logging
import time


class Complaints:
    """Logs a line of each kind at most once in `every_s` seconds, with the number of lines left out before
    it.
    """

    def __init__(self, log: logging.Logger, every_s: float = 5.0) -> None:
        self._log, self._every_s = log, every_s
        self._told: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def tell(self, kind: str, text: object) -> None:
        """Log a warning, unless one of its kind was logged recently."""
        now = time.monotonic()
        if now - self._told.get(kind, -self._every_s) < self._every_s:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._told[kind] = now
        more = self._left_out.pop(kind, 0)
        self._log.warning("%s: %.200s%s", kind, text, f" (and {more} more before it)" if more else "")

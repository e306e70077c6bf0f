"""Whether and why a run was asked to stop."""

from __future__ import annotations

import time

_RANKS = {None: -1, "stop": 0, "pause": 1, "preempt": 1}
_AT_ONCE = 2


class StopFlag:
    """Says whether a run was asked to stop, why, and when.

    `stop` ends the trial after its epoch, with its result so far; `pause` and `preempt` stop it so that it
    can be resumed; any other reason (`cancel`, `stale`) discards the run.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self.asked_at_s = 0.0
        #: Whether the run waits at a rung.
        self.held = False

    def renew(self) -> None:
        """Forget what was asked: another attempt continues the run."""
        self.why, self.asked_at_s, self.held = None, 0.0, False

    def ask(self, why: str) -> None:
        """Ask the run to stop; the most urgent of several reasons counts, and the first of equal ones."""
        if _RANKS.get(why, _AT_ONCE) > _RANKS.get(self.why, _AT_ONCE):
            self.why = why
            self.asked_at_s = time.monotonic()

    @property
    def ending(self) -> bool:
        """Whether to end the trial after an epoch."""
        return self.why == "stop"

    @property
    def leaving(self) -> bool:
        """Whether to leave the trial."""
        return self.why is not None and not self.ending

    @property
    def resumes(self) -> bool:
        """Whether the trial is to be resumed, so that its files are kept."""
        return self.held or (self.leaving and not self.at_once)

    @property
    def at_once(self) -> bool:
        """Whether nothing of the run is needed any more."""
        return _RANKS.get(self.why, _AT_ONCE) == _AT_ONCE

"""Estimates how long a sweep will still take, from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasweep.jobs.store.spent import Pace

#: A trial that has reached its expected number of epochs still has something to do.
_LAST_EPOCHS = 0.5
#: This many trials must have ended, and half as many as are running.
_FEWEST = 2


def seconds_left(pace: Pace, ended: int, running: Sequence[tuple[int, int]], waiting: int) -> float | None:
    """Return the seconds until a sweep ends at the current pace; None if unknown.

    The first trials are not representative: they load the data, compile the programs, and find slots one by
    one.

    Args:
        pace: how fast trials train.
        ended: the number of trials that have ended.
        running: for each running trial, the epochs that it may take and those it has trained.
        waiting: the number of trials that have not started.
    """
    if not running or ended < max(_FEWEST, len(running) / 2):
        return None
    share = pace.epochs_each / pace.planned_each  # what early stopping leaves of a trial
    left = [max(planned * share - done, _LAST_EPOCHS) for planned, done in running]
    return (sum(left) + waiting * pace.epochs_each) / (pace.epochs_per_s * len(running))

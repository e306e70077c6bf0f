"""How long a sweep will take yet, by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasweep.jobs.store.spent import Pace

#: A trial that has reached the epochs it was expected to take still has something to do.
_LAST_EPOCHS = 0.5
#: So many trials must have ended, and half as many as run.
_FEWEST = 2


def seconds_left(pace: Pace, ended: int, running: Sequence[tuple[int, int]], waiting: int) -> float | None:
    """Return the seconds until a sweep ends at the current pace; None while that cannot be told.

    The first trials tell little: they load the data, compile the programs, and find slots one by one.

    Args:
        pace: how fast trials train.
        ended: how many trials have ended.
        running: of each running trial, the epochs that it may take and those that it has trained.
        waiting: how many trials have not begun.
    """
    if not running or ended < max(_FEWEST, len(running) / 2):
        return None
    share = pace.epochs_each / pace.planned_each  # what early stopping leaves of a trial
    left = [max(planned * share - done, _LAST_EPOCHS) for planned, done in running]
    return (sum(left) + waiting * pace.epochs_each) / (pace.epochs_per_s * len(running))

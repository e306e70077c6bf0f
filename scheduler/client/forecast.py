"""How long a sweep will take yet, by what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerasweep.jobs.store.spent import Pace

#: A trial that has reached the epochs it was expected to take still has something to do.
_LAST_EPOCHS = 0.5


def seconds_left(pace: Pace, running: Sequence[tuple[int, int]], waiting: int) -> float | None:
    """Return the seconds until a sweep ends if it goes on as it does; None while no trial runs.

    Args:
        pace: how fast trials train.
        running: of each running trial, the epochs that it may take and those that it has trained.
        waiting: how many trials have not begun.
    """
    if not running:
        return None
    share = pace.epochs_each / pace.planned_each  # what early stopping leaves of a trial
    left = [max(planned * share - done, _LAST_EPOCHS) for planned, done in running]
    return (sum(left) + waiting * pace.epochs_each) / (pace.epochs_per_s * len(running))

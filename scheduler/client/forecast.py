"""Estimates how long a sweep will still take, from measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import FINAL, SweepState, TrialState

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import SweepRecord
    from kerasweep.jobs.store.records import Records
    from kerasweep.jobs.store.spent import Pace

#: A trial that has reached its expected number of epochs still has something to do.
_LAST_EPOCHS = 0.5
#: This many trials must have ended, and half as many as are running.
_FEWEST = 2


@dataclass(frozen=True)
class Times:
    """How long a sweep has been training, and how long it will still take (None if unknown), in seconds."""

    elapsed_s: float
    left_s: float | None


def times_of(
    records: Records, sweep: SweepRecord, planned: Callable[[Mapping[str, Any]], int | None]
) -> Times:
    """Return how long a sweep has been training, and will still take.

    Args:
        records: the records.
        sweep: the sweep.
        planned: returns how many epochs a trial with these parameters may take.
    """
    pace = records.pace(sweep.id, planned) if sweep.state is SweepState.RUNNING else None
    left_s = None
    if pace is not None:
        running = records.trials(sweep.id, [TrialState.RUNNING])
        ended = sum(count for state, count in records.counts(sweep.id).items() if state in FINAL)
        left = [((planned(one.params) or 0), one.epochs) for one in running]
        left_s = seconds_left(pace, ended, left, max(0, sweep.max_trials - ended - len(running)))
    return Times(records.spent_s(sweep.id), left_s)


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

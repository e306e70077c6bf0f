"""Estimates how long a sweep will still take, from measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import FINAL, SweepState

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import SweepRecord
    from kerasweep.jobs.store.records import Records
    from kerasweep.jobs.store.spent import Pace, Underway
    from kerasweep.jobs.sweepfile.stopping import Stopping

#: A trial that has reached its last epoch still has this much of an epoch to do.
_LAST_EPOCHS = 0.25
#: How much of the time since a trial's start counts: trials wait for each other to start.
_START_SHARE = 0.7
#: A rest that is known within this factor is told.
_DOUBT = 1.5


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
    if pace is not None and not _undecided(sweep.spec.stopping, pace):
        ended = sum(count for state, count in records.counts(sweep.id).items() if state in FINAL)
        left_s = seconds_left(pace, max(0, sweep.max_trials - ended - len(pace.running)))
    return Times(records.spent_s(sweep.id), left_s)


def _undecided(rules: Stopping | None, pace: Pace) -> bool:
    """Whether the scheduler will stop trials and has stopped none yet: how many continue is not known."""
    stops = rules is not None and (rules.halving is not None or rules.median is not None)
    return stops and all(epochs >= planned for planned, epochs in pace.lengths)


def seconds_left(pace: Pace, waiting: int) -> float | None:
    """Return the seconds until a sweep ends at its recent pace; None if unknown.

    The time of every epoch and every start of a trial that is still to come, divided by the number of trials
    that run at once. How many epochs a trial takes is estimated from those that have ended (`_Lengths`). How
    long a start takes is known once enough trials have started after the first ones. Those also load the data
    and compile the programs: until then they give an upper bound, and the estimate is told if it hardly
    matters.

    Args:
        pace: how fast trials train.
        waiting: the number of trials that have not started.
    """
    starting = [one.age_s for one in pace.running if one.late and not one.epochs]
    if pace.starts and len(pace.starts) >= pace.width / 2:
        # Only the quick ones have ended their start: the time of the others belongs to it too.
        start_s = (sum(pace.starts) + sum(starting)) / len(pace.starts)
        return _left_s(pace, waiting, max(0.0, start_s - pace.epoch_s)) or None
    longest_s = max(0.0, mean(pace.first_starts) - pace.epoch_s) if pace.first_starts else 0.0
    low, high = (_left_s(pace, waiting, start_s) for start_s in (0.0, longest_s))
    known = pace.first_starts or not (waiting or starting)
    return (low + high) / 2 or None if known and high <= _DOUBT * low else None


def _left_s(pace: Pace, waiting: int, start_s: float) -> float:
    lengths = _Lengths(pace)
    plans = [planned for planned, _ in pace.lengths] or [one.planned for one in pace.running]
    whole_s = start_s + pace.epoch_s * mean(lengths.rest(planned, 0) for planned in plans)
    running_s = sum(
        _rest_s(one, lengths.rest(one.planned, one.epochs), pace, start_s) for one in pace.running
    )
    return (running_s + waiting * whole_s) / max(1.0, pace.width)


def _rest_s(trial: Underway, epochs: float, pace: Pace, start_s: float) -> float:
    """Return the seconds that a running trial still takes for a number of epochs."""
    rest_s = epochs * pace.epoch_s
    if trial.epochs:
        return max(rest_s - min(trial.age_s, pace.epoch_s), _LAST_EPOCHS * pace.epoch_s)
    if not trial.late:
        return rest_s
    return start_s + rest_s - _START_SHARE * min(trial.age_s, start_s + pace.epoch_s)


class _Lengths:
    """How many epochs trials take, where early stopping or the scheduler may end them.

    The estimator of Kaplan and Meier (1958): of the trials that reached an epoch, running ones included, the
    share that ended there. A mean over those that have ended would be too short: short trials end first.
    """

    def __init__(self, pace: Pace) -> None:
        reached = [epochs for _, epochs in pace.lengths] + [one.epochs for one in pace.running]
        stops = Counter(epochs for planned, epochs in pace.lengths if epochs < planned)
        self._ends = {
            epoch: count / sum(one >= epoch for one in reached) for epoch, count in sorted(stops.items())
        }

    def rest(self, planned: int, epochs: int) -> float:
        """Return the expected number of further epochs of a trial that has trained some."""
        total, share, at = 0.0, 1.0, epochs
        for epoch, ends in self._ends.items():
            if epochs < epoch < planned:
                total += share * (epoch - at)
                share, at = share * (1.0 - ends), epoch
        return total + share * max(0, planned - at)

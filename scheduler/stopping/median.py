"""Ends variants that are worse than the median of earlier ones at the same epoch.

Golovin et al., Google Vizier (2017), section 3.2.2. There "earlier" refers to time; here it means lower
numbers, for which a variant waits if they are behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from kerasweep.jobs.sweepfile.stopping import Median
from kerasweep.scheduler.stopping.ruling import Ruling, Track

#: How many earlier variants are compared, so that a decision costs the same however many there are.
_COMPARED = 100


class MedianRule:
    """The rule.

    Args:
        settings: the block of the sweep file.
        epochs: the maximum for a trial.
        maximize: whether larger values of the metric are better.
    """

    def __init__(self, settings: Median, epochs: int, maximize: bool) -> None:
        self._startup, self._sign = settings.startup_trials, -1.0 if maximize else 1.0
        self._rungs = settings.epochs_at(epochs)
        self._next = dict(pairwise((*self._rungs, None)))

    def rungs(self) -> Sequence[int]:
        return self._rungs

    def first_rung(self, number: int) -> int | None:
        return self._rungs[0]

    def base(self, number: int) -> int:
        return max(0, number - _COMPARED)

    def stop(self, number: int) -> int:
        return number + 1

    def open_until(self, settled: int, planned: int) -> int:
        return planned

    def awaited(self, curves: Mapping[int, Track], planned: int) -> list[int]:
        found: set[int] = set()
        for curve in curves.values():
            if curve.stands is not None:
                before = [curves[number] for number in range(self.base(curve.number), curve.number)]
                found |= {one.number for one in before if not one.ended and curve.stands not in one.at}
        return sorted(found)

    def learned(self, number: int) -> int | None:
        return None

    def decide(self, curves: Mapping[int, Track], planned: int) -> list[Ruling]:
        rulings = []
        for _, curve in sorted(curves.items()):
            ruling = self._rule(curve, curve.stands, curves) if curve.stands is not None else None
            if ruling is not None:
                rulings.append(ruling)
        return rulings

    def _rule(self, curve: Track, rung: int, curves: Mapping[int, Track]) -> Ruling | None:
        before = [curves[number] for number in range(self.base(curve.number), curve.number)]
        if any(not one.ended and rung not in one.at for one in before):
            return None
        # A variant that ended by itself earlier counts with its final value; one that was stopped does not
        # count.
        values = [one.at.get(rung, one.value) for one in before]
        known = [self._sign * value for value in values if value is not None]
        if len(known) < max(1, self._startup):
            reason = f"only {len(known)} trials before it reached epoch {rung}"
            return Ruling(curve.number, rung, True, self._next[rung], reason)
        middle = median(known)
        on = self._sign * curve.at[rung] <= middle
        reason = (
            f"{curve.at[rung]:g} at epoch {rung}, the median of {len(known)} before it is "
            f"{self._sign * middle:g}"
        )
        return Ruling(curve.number, rung, on, self._next[rung] if on else None, reason)

"""Successive halving in cohorts, which depends only on the seed: not on workers, order or speed.

Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization (2016); with
brackets, Li et al., Hyperband (2018). Published systems either discard and never resume, or promote first
come, first served (ASHA: Li et al., 2020).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from kerasweep.jobs.sweepfile.stopping import Halving
from kerasweep.scheduler.stopping.ruling import Ruling, Track

#: The number of cohorts under way at a time.
UNDER_WAY = 2


@dataclass(frozen=True)
class Cohort:
    """Variants with numbers from `start` to before `stop` that are compared at the same rungs."""

    index: int
    start: int
    stop: int
    rungs: tuple[int, ...]


class HalvingRule:
    """The rule.

    Args:
        halving: the block of the sweep file.
        epochs: the maximum for a trial.
        maximize: whether larger values of the metric are better.
    """

    def __init__(self, halving: Halving, epochs: int, maximize: bool) -> None:
        self._factor, self._sign = halving.factor, -1.0 if maximize else 1.0
        rungs = halving.epochs_at(epochs)
        self._brackets = [rungs[bracket:] for bracket in range(halving.brackets)]
        sizes = [_size(halving, len(rungs), bracket) for bracket in range(halving.brackets)]
        self._ends = list(accumulate(sizes))

    def cohort(self, index: int) -> Cohort:
        """Return a cohort by its position in the sequence of cohorts."""
        lap, bracket = divmod(index, len(self._ends))
        offset = lap * self._ends[-1]
        start = self._ends[bracket - 1] if bracket else 0
        return Cohort(index, offset + start, offset + self._ends[bracket], self._brackets[bracket])

    def cohort_of(self, number: int) -> Cohort:
        """Return the cohort that a variant belongs to."""
        lap, rest = divmod(number, self._ends[-1])
        return self.cohort(lap * len(self._ends) + bisect_right(self._ends, rest))

    def rungs(self) -> Sequence[int]:
        return self._brackets[0]

    def first_rung(self, number: int) -> int | None:
        return self.cohort_of(number).rungs[0]

    def base(self, number: int) -> int:
        return self.cohort_of(number).start

    def stop(self, number: int) -> int:
        return self.cohort_of(number).stop

    def open_until(self, settled: int, planned: int) -> int:
        return min(planned, self.cohort(self.cohort_of(settled).index + UNDER_WAY - 1).stop)

    def awaited(self, curves: Mapping[int, Track], planned: int) -> list[int]:
        found: list[int] = []
        indices = {self.cohort_of(one.number).index for one in curves.values() if one.stands is not None}
        for cohort in map(self.cohort, sorted(indices)):
            members = range(cohort.start, min(cohort.stop, planned))
            tracks = [curves.get(number, Track(number)) for number in members]
            rung = min(one.stands for one in tracks if one.stands is not None)
            found += [one.number for one in tracks if not one.ended and rung not in one.at]
        return found

    def learned(self, number: int) -> int | None:
        index = self.cohort_of(number).index
        return self.cohort(index - UNDER_WAY).stop if index >= UNDER_WAY else 0

    def decide(self, curves: Mapping[int, Track], planned: int) -> list[Ruling]:
        rulings: list[Ruling] = []
        if not curves:
            return rulings
        first, last = (self.cohort_of(number).index for number in (min(curves), max(curves)))
        for index in range(first, last + 1):
            rulings += self._decide(self.cohort(index), curves, planned)
        return rulings

    def _decide(self, cohort: Cohort, curves: Mapping[int, Track], planned: int) -> Iterator[Ruling]:
        """Yield the rulings of a cohort, as far as its rungs can be decided."""
        numbers = range(cohort.start, min(cohort.stop, planned))
        members = [curves[number] for number in numbers if number in curves]
        size = len(numbers)
        if len(members) < size:
            return
        for place, rung in enumerate(cohort.rungs):
            if any(not one.ended and rung not in one.at for one in members):
                return
            share = max(1, size // self._factor ** (place + 1))
            rulings = list(self._rank(members, cohort.rungs, place, share))
            yield from rulings
            if any(ruling.goes_on for ruling in rulings):
                return  # the next rung waits for it
            members = [one for one in members if one.stands != rung]

    def _rank(self, members: list[Track], rungs: tuple[int, ...], place: int, share: int) -> Iterator[Ruling]:
        rung, following = rungs[place], (*rungs, None)[place + 1]
        # A variant that ended by itself before the rung is compared with its final value.
        values = {one.number: one.at.get(rung, one.value) for one in members}
        ranked = sorted((self._sign * value, number) for number, value in values.items() if value is not None)
        ranks = {number: rank for rank, (_, number) in enumerate(ranked, start=1)}
        for one in members:
            if one.stands == rung:
                rank = ranks[one.number]
                reason = f"number {rank} of {len(ranked)} at epoch {rung}, of which the best {share} go on"
                on = rank <= share
                yield Ruling(one.number, rung, on, following if on else None, reason)


def _size(halving: Halving, rungs: int, bracket: int) -> int:
    """Return the number of variants in a bracket's cohort, with about as many epochs as in the first."""
    share = (rungs + 1) / (rungs + 1 - bracket) / halving.factor**bracket
    return max(halving.factor, math.ceil(halving.size * share)) if bracket else halving.size

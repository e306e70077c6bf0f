"""What a process remembers of a sweep's ended trials, so that a decision need not read them again.

A trial that counts cannot change; one that failed or was cancelled is looked at again, since it may have been
retried. Nothing here affects what is decided: a process that remembers nothing reads everything, and decides
the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

from kerasweep.jobs.store.decision import Decision
from kerasweep.jobs.store.models import EarlierResult, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, FINAL, TrialState
from kerasweep.scheduler.deciding.rungs import (
    at_height,
    earlier_observed,
    height_of,
    observation_of,
    observation_of_variant,
    unknown,
)
from kerasweep.scheduler.samplers import Observation, Sampler, sampler_for

#: So many sweeps are remembered at once.
_SWEEPS = 4
#: Stands where a trial that has not ended will be.
_NOTHING = Observation(-1, {}, TrialState.QUEUED)


class Memory:
    """The ended trials of a sweep, and its search method. It is used under the sweep's lock alone."""

    def __init__(self) -> None:
        self._ended: dict[int, Observation] = {}
        self._seen: list[Observation] = []  # the same by number, with whatever at the numbers of others
        self._fresh: tuple[Decision | None, int] = (None, 0)
        self._open: list[TrialRecord] = []
        self._unplaced: set[int] = set()
        self._rungs: dict[int, Mapping[int, float]] = {}
        self._counted = 0
        self._others: dict[int, tuple[str, int, float]] = {}  # those that ended and do not count
        self._floor = 0  # all below have ended
        #: Whether a trial that counts was among the first that ended.
        self.began_well = False
        self._mark: tuple[Any, ...] = ()
        self._records: dict[int, TrialRecord] = {}  # in a sweep with repeats
        self._variants: dict[int, Observation] = {}  # there, those of which every trial has ended
        self._samplers: list[Sampler] = []
        self._earlier: list[EarlierResult] | None = None
        self._earlier_at: dict[int | None, tuple[Observation, ...]] = {}
        self._height: int | None = None
        self._plain: list[Observation] = []
        self._at_height: list[Observation] = []

    def observe(self, decision: Decision, learned: int | None) -> tuple[Observation, ...]:
        """Return every trial as a search method sees it; see `rungs.observed`."""
        spec, open_ = decision.sweep.spec, self._refresh(decision)
        if spec.times > 1:
            return tuple(self._observe_variants(spec, {one.number: one for one in open_}))
        seen = list(self._seen)
        for one in open_:
            seen[one.number] = observation_of(one)
        if not learned:
            return tuple(seen)
        return (*self._compare(spec, seen[:learned]), *map(unknown, seen[learned:]))

    def values(self, decision: Decision, count: int) -> list[float | None]:
        """Return the values of the first `count` variants, which have ended; None if one does not count."""
        return [one.value for one in self.observe(decision, None)[:count]]

    def earlier(self, decision: Decision, learned: int | None) -> tuple[Observation, ...]:
        """Return what is learned from an earlier sweep, compared as the trials last observed are."""
        if self._earlier is None:
            self._earlier = decision.earlier()
        height = self._height if learned else None
        if height not in self._earlier_at:
            self._earlier_at[height] = earlier_observed(self._earlier, height)
        return self._earlier_at[height]

    @contextmanager
    def sampler(self, spec: SweepSpec) -> Iterator[Sampler]:
        """Lend the sweep's search method, or a new one while another thread uses it."""
        sampler = self._samplers.pop() if self._samplers else sampler_for(spec)
        yield sampler
        self._samplers.append(sampler)

    def _observe_variants(self, spec: SweepSpec, going: Mapping[int, TrialRecord]) -> Iterator[Observation]:
        """Yield the variants of a sweep with repeats."""
        for variant in range((len(self._ended) + len(going)) // spec.times):
            if variant not in self._variants:
                numbers = range(variant * spec.times, (variant + 1) * spec.times)
                trials = [self._records.get(number) or going[number] for number in numbers]
                self._variants[variant] = observation_of_variant(spec, variant, trials)
            yield self._variants[variant]
            if not self._variants[variant].state.final:
                del self._variants[variant]

    def _compare(self, spec: SweepSpec, trials: list[Observation]) -> list[Observation]:
        """Return trials with their values at the highest rung that enough of them have reached."""
        height = height_of(spec, trials, self._rungs)
        same = height == self._height and len(self._plain) <= len(trials)
        if not same or not all(map(is_, self._plain, trials)):
            self._height, self._plain, self._at_height = height, [], []
        fresh = trials[len(self._plain) :]
        self._plain += fresh
        self._at_height += [at_height(one, self._rungs.get(one.number, {}), height) for one in fresh]
        return self._at_height

    def _refresh(self, decision: Decision) -> list[TrialRecord]:
        """Remember the trials that have ended by now; return all others."""
        if self._fresh == (decision, decision.changes):
            return self._open
        counts = decision.counts()
        count = sum(counts.get(state, 0) for state in COUNTED)
        if count < self._counted:  # the records are from a backup
            self._ended, self._rungs, self._others, self._counted, self._floor = {}, {}, {}, 0, 0
            self._mark, self.began_well = (), False
            self._records, self._variants, self._seen = {}, {}, []
        self._recall(decision)
        if count > self._counted:
            self._remember(decision, [one for one in decision.counted(self._floor) if one not in self._ended])
        if count > self._counted:  # one that had ended without a result was retried
            self._remember(decision, [one for one in decision.counted(0) if one not in self._ended])
        self._open, self._fresh = decision.open_trials(), (decision, decision.changes)
        self._floor = min((one.number for one in self._open), default=sum(counts.values()))
        self._seen += [_NOTHING] * (sum(counts.values()) - len(self._seen))
        for number in self._unplaced:
            self._seen[number] = self._ended[number]
        self._unplaced.clear()
        return self._open

    def _recall(self, decision: Decision) -> None:
        """Look again at those that ended without a result."""
        counts = decision.counts()
        some = self._others or any(counts.get(state) for state in FINAL - COUNTED)
        mark = decision.mark_without_result() if some else ()
        if mark == self._mark:
            return
        self._mark = mark
        found = decision.ended_without_result()
        for number, was in self._others.items():
            if found.get(number) != was:
                del self._ended[number]
                self._unplaced.discard(number)
                self._records.pop(number, None)
                self._variants.pop(number // decision.sweep.spec.times, None)
        fresh = [number for number, now in found.items() if self._others.get(number) != now]
        self._others = found
        self._read(decision, fresh)

    def _remember(self, decision: Decision, numbers: Collection[int]) -> None:
        self._read(decision, numbers)
        self._counted += len(numbers)

    def _read(self, decision: Decision, numbers: Collection[int]) -> None:
        if not numbers:
            return
        trials, values = decision.trials_of(list(numbers)), decision.rung_values(min(numbers))
        self._ended |= {one.number: observation_of(one) for one in trials}
        self._unplaced |= set(numbers)
        self._rungs |= {number: values.get(number, {}) for number in numbers}
        if decision.sweep.spec.times > 1:
            self._records |= {one.number: one for one in trials}


_memories: WeakKeyDictionary[Records, OrderedDict[str, Memory]] = WeakKeyDictionary()


def memory_of(records: Records, sweep: str) -> Memory:
    """Return what is remembered of a sweep; call it under the sweep's lock."""
    found = _memories.setdefault(records, OrderedDict())
    memory = found.pop(sweep, None) or Memory()
    found[sweep] = memory
    while len(found) > _SWEEPS:
        found.popitem(last=False)
    return memory


def forget(records: Records, sweep: str) -> None:
    """Remember nothing of a sweep: what was written was rolled back."""
    _memories.get(records, OrderedDict()).pop(sweep, None)

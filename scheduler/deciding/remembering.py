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
from weakref import WeakKeyDictionary

from kerasweep.jobs.store.decision import Decision
from kerasweep.jobs.store.models import EarlierResult, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, FINAL
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


class Memory:
    """The ended trials of a sweep, and its search method. It is used under the sweep's lock alone."""

    def __init__(self) -> None:
        self._ended: dict[int, Observation] = {}
        self._rungs: dict[int, Mapping[int, float]] = {}
        self._counted = 0
        self._others: dict[int, tuple[str, int, float]] = {}  # those that ended and do not count
        self._floor = 0  # all below have ended
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
        going = {one.number: observation_of(one) for one in open_}
        numbers = range(len(self._ended) + len(going))
        seen = [self._ended.get(number) or going[number] for number in numbers]
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
        counts = decision.counts()
        count = sum(counts.get(state, 0) for state in COUNTED)
        if count < self._counted:  # the records are from a backup
            self._ended, self._rungs, self._others, self._counted, self._floor = {}, {}, {}, 0, 0
            self._records, self._variants = {}, {}
        self._recall(decision)
        if count > self._counted:
            self._remember(decision, [one for one in decision.counted(self._floor) if one not in self._ended])
        if count > self._counted:  # one that had ended without a result was retried
            self._remember(decision, [one for one in decision.counted(0) if one not in self._ended])
        going = decision.open_trials()
        self._floor = min((one.number for one in going), default=sum(counts.values()))
        return going

    def _recall(self, decision: Decision) -> None:
        """Look again at those that ended without a result."""
        counts = decision.counts()
        some = self._others or any(counts.get(state) for state in FINAL - COUNTED)
        found = decision.ended_without_result() if some else {}
        for number, was in self._others.items():
            if found.get(number) != was:
                del self._ended[number]
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

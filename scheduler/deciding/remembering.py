"""What a process remembers of trials that count: they cannot change, so a decision need not read them again.

It saves the reading alone: a search method still goes through all results. Nothing here affects what is
decided: a process that remembers nothing reads everything, and decides the same.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

from kerasweep.jobs.store.decision import Decision
from kerasweep.jobs.store.models import TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import COUNTED
from kerasweep.scheduler.deciding.rungs import observed
from kerasweep.scheduler.samplers import Observation

#: So many sweeps are remembered at once.
_SWEEPS = 4


class Memory:
    """The trials of a sweep that count. It is used under the sweep's lock alone."""

    def __init__(self) -> None:
        self._trials: dict[int, TrialRecord] = {}
        self._seen: dict[int, Observation] = {}
        self._floor = 0  # all below were remembered, or had ended without a result

    def observe(self, decision: Decision, learned: int | None) -> tuple[Observation, ...]:
        """Return every trial as a search method sees it; see `rungs.observed`."""
        others = {one.number: one for one in self._refresh(decision)}
        numbers = range(len(self._trials) + len(others))
        spec = decision.sweep.spec
        if spec.times > 1:
            every = [self._trials.get(number) or others[number] for number in numbers]
            return observed(spec, every, {}, None)
        if learned:
            every = [self._trials.get(number) or others[number] for number in numbers]
            return observed(spec, every, decision.rung_values(), learned)
        seen = {one.number: one for one in observed(spec, list(others.values()), {}, None)}
        return tuple(self._seen.get(number) or seen[number] for number in numbers)

    def _refresh(self, decision: Decision) -> list[TrialRecord]:
        """Remember the trials that count by now; return all others."""
        count = sum(decision.counts().get(state, 0) for state in COUNTED)
        if count < len(self._trials):  # the records are from a backup
            self._trials, self._seen, self._floor = {}, {}, 0
        if count > len(self._trials):
            self._remember(decision, self._floor)
        if count > len(self._trials):  # one that had ended without a result was retried
            self._remember(decision, 0)
        others = decision.uncounted()
        open_ = [one.number for one in others if not one.state.final]
        self._floor = min(open_, default=len(self._trials) + len(others))
        return others

    def _remember(self, decision: Decision, first: int) -> None:
        fresh = [one for one in decision.counted(first) if one not in self._trials]
        trials = decision.trials_of(fresh)
        self._trials |= {one.number: one for one in trials}
        self._seen |= {one.number: one for one in observed(decision.sweep.spec, trials, {}, None)}


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

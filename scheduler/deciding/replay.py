"""Decides a sweep again, from its seed and its recorded results, and compares that with its journal.

Each decision is repeated on what was recorded before its journal entry: a trial that was retried since, or
one that came late, is seen as it was then.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from typing import Any

from kerasweep.jobs.store.models import AttemptRecord, EarlierResult, JournalEntry, SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, Failure, FailureClass, TrialState
from kerasweep.jobs.variants import seed_of, variants_of
from kerasweep.scheduler import samplers
from kerasweep.scheduler.deciding.rungs import (
    WRITES_MODEL,
    earlier_observed,
    height_of,
    observation_of,
    observed,
)
from kerasweep.scheduler.samplers import Suggestion, packages_of, sampler_for
from kerasweep.scheduler.stopping import Track, patience_for, rule_for
from kerasweep.scheduler.stopping.halving import HalvingRule

#: The decision that records which package versions chose a sweep's points.
PACKAGES = "packages"
#: Decisions of the user, or of the clock, cannot be repeated.
_BY_THE_CLOCK = "budget.max_hours"
_FAILED = "failed: "


@dataclass(frozen=True)
class Replay:
    """The result of a replay.

    Args:
        decisions: the number of decisions repeated.
        difference: the first difference, or a contradiction in the records; None if all are equal.
        versions: the packages that chose points, with the versions installed here, if different.
    """

    decisions: int
    difference: str | None
    versions: tuple[str, ...]


def replay(records: Records, sweep: SweepRecord) -> Replay:
    """Decide a sweep again, as far as it has come."""
    journal = records.journal(sweep.id)
    attempts = records.attempts(sweep.id)
    trials, rungs = records.trials(sweep.id), records.rung_values(sweep.id)
    again = Retelling(sweep.spec, trials, rungs, attempts, records.earlier(sweep.id))
    difference = next(again.differences(journal), None)
    if difference is None:
        difference = next(_contradictions(records, sweep, again.trials), None)
    return Replay(again.decisions, difference, tuple(_other_versions(sweep.spec, journal)))


def versions_of(spec: SweepSpec) -> dict[str, str]:
    """Return the local versions of the packages that choose a sweep's points; `none` for a missing one."""
    ours = {f"method {spec.method.name}": str(samplers.VERSION)}
    return {name: _version(name) for name in ("kerasweep", *packages_of(spec))} | ours


class Retelling:
    """The journal, entry by entry, with what was known before each.

    Args:
        spec: the sweep file.
        trials: as currently recorded, by number.
        rungs: their values at rungs.
        attempts: at its trials, as currently recorded.
        earlier: what the sweep learns from an earlier one.
    """

    def __init__(
        self,
        spec: SweepSpec,
        trials: Sequence[TrialRecord],
        rungs: Mapping[int, Mapping[int, float]],
        attempts: Sequence[AttemptRecord],
        earlier: Sequence[EarlierResult] = (),
    ) -> None:
        self._earlier = earlier
        self.trials, self.decisions = trials, 0
        self._spec, self._rungs = spec, rungs
        self._attempts = {(one.trial, one.number): one for one in attempts}
        self._rule, self._sampler = rule_for(spec), sampler_for(spec)
        # All numbers of trials and plans are those of variants where the sweep has repeats.
        self._patience, self._planned = patience_for(spec, self._rule), spec.planned_variants()
        self._states: dict[int, TrialState] = {}
        self._failures: dict[int, FailureClass] = {}
        self._reached: dict[int, dict[int, float]] = {}
        self._ending: set[int] = set()

    def differences(self, journal: Sequence[JournalEntry]) -> Iterator[str]:
        """Yield the differences between the decisions and the journal, in order."""
        suggested: list[int] = []
        for line in journal:
            if line.event == "suggested" and line.trial is not None:
                suggested.append(line.trial)
                continue
            yield from self._suggested(suggested)
            suggested = []
            if line.trial is None:
                yield from self._noted(line)
            elif line.state is not None:
                yield from self._moved(line, line.trial, TrialState(line.state))
        yield from self._suggested(suggested)
        if len(self._states) < len(self.trials):
            yield f"{len(self.trials)} trials are on record, but the journal has {len(self._states)}"

    def _suggested(self, numbers: Sequence[int]) -> Iterator[str]:
        """Draw again the trials that were added together."""
        place, times = 0, self._spec.times
        while place < len(numbers):
            number = numbers[place]
            if number >= len(self.trials) or number != len(self._states):
                yield f"trial {number} was added after {len(self._states)} trials, but the records differ"
                return
            learned = self._learned(number)
            alike = [one for one in numbers[place::times] if self._learned(one) == learned]
            ours = next((n for n, one in enumerate(alike) if self.trials[one].by_hand), len(alike))
            found = [] if not ours else self._suggest(ours, learned)
            if ours and not found:
                yield f"trial {number}: the method has no point here, but one is on record"
            added = numbers[place : place + max(1, len(found)) * times]
            for n, one in enumerate(added):
                yield from self._compare(one, found[n // times].params if found else None)
                self._states[one] = TrialState.QUEUED
            place += len(added)

    def _compare(self, number: int, params: Mapping[str, Any] | None) -> Iterator[str]:
        trial, seed = self.trials[number], seed_of(self._spec, number)
        self.decisions += 1
        if trial.seed != seed:
            yield f"trial {number} has seed {trial.seed} on record, but the sweep's seed gives {seed}"
        variant = number // self._spec.times
        if trial.by_hand and variant < len(self._spec.start):
            params = self._spec.start_points()[variant]
        if params is not None and dict(trial.params) != dict(params):
            told = f"trial {number} has {_short(trial.params)} on record"
            yield f"{told}, but the replay gives {_short(params)}"

    def _learned(self, number: int) -> int | None:
        return self._rule.learned(number) if self._rule else None

    def _suggest(self, wanted: int, learned: int | None) -> Sequence[Suggestion]:
        """Ask the search method what it would propose after the trials so far."""
        then = [self._as_it_was(self.trials[number]) for number in range(len(self._states))]
        seen = observed(self._spec, then, self._reached, learned)
        first = [observation_of(one) for one in then[:learned]] if learned else []
        height = height_of(self._spec, first, self._reached) if learned else None
        return self._sampler.suggest(seen, wanted, learned, earlier_observed(self._earlier, height))

    def _as_it_was(self, trial: TrialRecord) -> TrialRecord:
        state = self._states[trial.number]
        failed = self._failures.get(trial.number) if state is TrialState.FAILED else None
        if state is trial.state and failed is None:
            return trial
        return replace(trial, state=state, failure=Failure(failed, "") if failed else None)

    def _moved(self, line: JournalEntry, number: int, state: TrialState) -> Iterator[str]:
        before, attempt = self._states.get(number), self._attempts.get((number, line.attempt or 0))
        if before is TrialState.WAITING and state in (TrialState.QUEUED, TrialState.STOPPED):
            yield from self._ruled(line, number, state)
        if line.event == TrialState.WAITING and attempt and (rung := attempt.rung) is not None:
            self._reached.setdefault(number, {})[rung] = self._rungs.get(number, {}).get(rung, float("nan"))
        if state is TrialState.FAILED:
            outcome = (attempt and attempt.outcome) or ""
            failed = outcome.startswith(_FAILED)
            self._failures[number] = FailureClass(outcome.removeprefix(_FAILED) if failed else "preempted")
        self._states[number] = state

    def _ruled(self, line: JournalEntry, number: int, state: TrialState) -> Iterator[str]:
        """Decide again on a waiting trial."""
        reason = line.reason.removesuffix(WRITES_MODEL)
        stopped = state is TrialState.STOPPED or line.reason.endswith(WRITES_MODEL)
        if stopped:
            self._ending.add(number)
        if self._rule is None or reason.startswith(_BY_THE_CLOCK):
            return
        self.decisions += 1
        first = self._rule.base(number)
        last = self._rule.cohort_of(number).stop if isinstance(self._rule, HalvingRule) else number + 1
        tracks = {one: self._track(one, number) for one in range(first, last) if one in self._states}
        ruling = next((one for one in self._rule.decide(tracks, self._planned) if one.number == number), None)
        told = f"trial {number} was {'stopped' if stopped else 'resumed'}"
        if ruling is None:
            yield f"{told} before the trials that it is compared with had come that far: {reason}"
        elif ruling.goes_on is stopped or ruling.reason != reason:
            how = "resumed" if ruling.goes_on else "stopped"
            yield f"{told} ({reason}), but the replay gives {how} ({ruling.reason})"

    def _track(self, number: int, asked: int) -> Track:
        state, at = self._states[number], self._reached.get(number, {})
        value = self.trials[number].value if state is TrialState.COMPLETED else None
        ended = state.final or (number in self._ending and number != asked)
        return Track(number, at, max(at, default=None) if number == asked else None, ended, value)

    def _noted(self, line: JournalEntry) -> Iterator[str]:
        """Record the number of planned trials."""
        numbers = [int(found) for found in re.findall(r"\d+", line.reason)]
        if line.event == "extended":
            self._planned = numbers[1] // self._spec.times
        elif line.event == "space spent":
            self._planned = numbers[0] // self._spec.times
        elif line.event == "added":
            self._planned += 1
        elif line.event == "patience spent":
            self.decisions += 1
            last = self._patience.ends_at(self._values(), self._planned)
            if last != numbers[-1]:
                yield f"the sweep's patience ended it at {numbers[-1]} trials, but the replay gives {last}"
            self._planned = numbers[-1]

    def _values(self) -> list[float | None]:
        if self._spec.times > 1:
            settled = takewhile(lambda one: self._states[one.number].final, self.trials[: len(self._states)])
            return [one.value for one in variants_of(self._spec, [self._as_it_was(one) for one in settled])]
        found: list[float | None] = []
        for number, state in sorted(self._states.items()):
            if not state.final:
                break
            found.append(self.trials[number].value if state in COUNTED else None)
        return found


def _contradictions(records: Records, sweep: SweepRecord, trials: Sequence[TrialRecord]) -> Iterator[str]:
    """Yield results that contradict the recorded epochs."""
    name, better = sweep.spec.metric.name, max if sweep.spec.metric.goal == "maximize" else min
    epochs, rungs = records.epochs(sweep.id), records.rung_values(sweep.id)
    for trial in trials:
        known = [
            one for one in epochs.get(trial.number, ()) if math.isfinite(one.metrics.get(name, math.nan))
        ]
        told = dict(rungs.get(trial.number, {}))
        if trial.state in COUNTED and trial.value is not None:
            told[trial.epochs] = trial.value
        for until, value in told.items():
            best = better((one.metrics[name] for one in known if one.epoch <= until), default=value)
            if best != value:
                told_by = f"trial {trial.number} has {value:g} at epoch {until} on record"
                yield f"{told_by}, but its epochs give {best:g}"


def _other_versions(spec: SweepSpec, journal: Sequence[JournalEntry]) -> Iterator[str]:
    here, head = versions_of(spec), f"{PACKAGES} = "
    for line in journal:
        if line.event == "decided" and line.reason.startswith(head):
            found: Mapping[str, str] = ast.literal_eval(line.reason[len(head) : line.reason.index("}") + 1])
            for name, then in found.items():
                if here.get(name, "none") != then:
                    yield f"{name} {then} chose the points, but {here.get(name, 'none')} is installed here"


#: Only what is found is remembered: a missing package may be installed while the scheduler runs.
_found_version = cache(version)


def _version(name: str) -> str:
    try:
        return _found_version(name)
    except PackageNotFoundError:
        return "none"


def _short(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in params.items())

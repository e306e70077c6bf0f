"""The stopping rule's decisions on waiting trials, and what a search method learns from them.

A trial that is stopped at a rung has no model file yet: writing one for each would make a rung cost more than
its epochs. If it is among the best, whose models are kept, it is queued once more to end at its rung, and a
worker then writes its model from its checkpoint. All others end where they wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from kerasweep.jobs.store.decision import Decision
from kerasweep.jobs.store.models import EarlierResult, SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState
from kerasweep.jobs.variants import Variant
from kerasweep.scheduler.samplers import Observation
from kerasweep.scheduler.stopping import StoppingRule, Track, rule_for

#: Ends the journal reason of a stopped trial that still has to write its model.
WRITES_MODEL = "; it is among the best, so its model is written"
_WAITING = (TrialState.WAITING,)


def judge_waiting(decision: Decision, rule: StoppingRule) -> None:
    """Resume or end the waiting trials, as far as that can be decided now."""
    while waiting := decision.numbers(TrialState.WAITING):
        first, until = rule.base(waiting[0]), rule.stop(waiting[-1])
        values = decision.rung_values(first)
        compared = decision.trials(first, until)
        tracks = {one.number: track_of(one, values.get(one.number, {})) for one in compared}
        rulings = rule.decide(tracks, decision.sweep.max_trials)
        if not rulings:
            return
        for ruling in rulings:
            if ruling.goes_on:
                rung, why = ruling.next_rung, ruling.reason
                decision.move(TrialState.QUEUED, why, ruling.number, among=_WAITING, rung=rung)
        end_waiting(decision, {one.number: one.reason for one in rulings if not one.goes_on})


def end_waiting(decision: Decision, reasons: Mapping[int, str]) -> None:
    """End waiting trials, with the values that they have.

    Args:
        decision: the sweep under its lock.
        reasons: why, by the trial's number.
    """
    best = decision.among_best(reasons)
    for number, reason in reasons.items():
        if number in best:
            decision.move(TrialState.QUEUED, reason + WRITES_MODEL, number, among=_WAITING, ends=True)
        else:
            decision.move(TrialState.STOPPED, reason, number, among=_WAITING)


def end_at_rungs(decision: Decision, reason: str) -> None:
    """End every trial that has a value from a rung and is not training, since no more training is allowed."""
    waiting = decision.numbers(TrialState.WAITING)
    end_waiting(decision, dict.fromkeys(waiting, reason))
    decision.move(TrialState.QUEUED, reason, among=(TrialState.PAUSED,), reached=True)
    values = decision.rung_values()
    for number in decision.numbers(TrialState.QUEUED, to_go_on=True):
        if number in values:
            decision.end_at(number, max(values[number]), f"it ends at its last rung, since {reason}")


def awaited(records: Records, sweep: SweepRecord) -> list[int]:
    """Return the trials that must reach a rung, or end, before the waiting ones can be decided."""
    rule = rule_for(sweep.spec)
    if rule is None:
        return []
    first = rule.base(records.settled(sweep.id))
    values = records.rung_values(sweep.id, first)
    tracks = {
        one.number: track_of(one, values.get(one.number, {})) for one in records.trials(sweep.id, first=first)
    }
    return rule.awaited(tracks, sweep.max_trials)


def observed(
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    rungs: Mapping[int, Mapping[int, float]],
    learned: int | None,
) -> tuple[Observation, ...]:
    """Return trials as a search method sees them.

    If a stopping rule says how many of them to learn from, they are compared at the highest rung that enough
    of these have reached, as in Falkner et al., BOHB (2018); those that did not reach it say nothing.

    In a sweep with repeats, these are its variants.
    """
    if spec.times > 1:
        return tuple(
            observation_of_variant(spec, number, trials[number * spec.times : (number + 1) * spec.times])
            for number in range(len(trials) // spec.times)
        )
    seen = tuple(map(observation_of, trials))
    if not learned:
        return seen
    height = height_of(spec, seen[:learned], rungs)
    first = tuple(at_height(one, rungs.get(one.number, {}), height) for one in seen[:learned])
    return first + tuple(map(unknown, seen[learned:]))


def height_of(
    spec: SweepSpec, trials: Sequence[Observation], rungs: Mapping[int, Mapping[int, float]]
) -> int | None:
    """Return the highest rung that enough of these trials have reached, else the lowest; None for the end."""
    enough = len(spec.space().varied) + 2
    height: int | None = None
    for height in _heights(trials, rungs):
        with_value = (one for one in trials if _value_at(one, rungs.get(one.number, {}), height) is not None)
        if sum(1 for _ in islice(with_value, enough)) == enough:
            break
    return height


def _heights(trials: Sequence[Observation], rungs: Mapping[int, Mapping[int, float]]) -> Iterator[int | None]:
    """Yield None for the end, then the rungs from the top."""
    yield None
    yield from sorted({rung for one in trials for rung in rungs.get(one.number, {})}, reverse=True)


def at_height(trial: Observation, at: Mapping[int, float], height: int | None) -> Observation:
    """Return a trial with its value at a rung, or at its end; if it was stopped before, it says nothing."""
    value = _value_at(trial, at, height)
    known = value is not None or trial.state is TrialState.FAILED
    return replace(trial, value=value if trial.state in COUNTED else None, known=known)


def unknown(trial: Observation) -> Observation:
    """Return a trial whose result is not learned from."""
    return replace(trial, value=None, known=trial.state is TrialState.FAILED)


def earlier_observed(earlier: Sequence[EarlierResult], height: int | None) -> tuple[Observation, ...]:
    """Return the results of an earlier sweep as a search method sees them, numbered below 0.

    Args:
        earlier: as recorded.
        height: the rung at which this sweep's trials are compared; None for their final values.
    """
    seen = [
        Observation(
            number,
            dict(one.params),
            one.state,
            one.value,
            FailureClass.DIVERGED if one.state is TrialState.FAILED else None,
        )
        for number, one in enumerate(earlier, start=-len(earlier))
    ]
    if height is None:
        return tuple(seen)
    return tuple(at_height(one, result.rungs, height) for one, result in zip(seen, earlier, strict=True))


def track_of(trial: TrialRecord, at: Mapping[int, float]) -> Track:
    """Return a trial's curve as a stopping rule sees it; a trial that only has to end counts as ended."""
    stands = trial.rung if trial.state is TrialState.WAITING else None
    value = trial.value if trial.state is TrialState.COMPLETED else None
    return Track(trial.number, at, stands, trial.state.final or trial.ends, value)


def observation_of_variant(spec: SweepSpec, number: int, trials: Sequence[TrialRecord]) -> Observation:
    """Return a variant as a search method sees it, from its trials."""
    variant = Variant.of(number, trials, maximize=spec.metric.goal == "maximize")
    cls, by_hand = variant.failure.cls if variant.failure else None, trials[0].by_hand
    return Observation(number, dict(variant.params), variant.state, variant.value, cls, by_hand=by_hand)


def observation_of(trial: TrialRecord) -> Observation:
    """Return a trial as a search method sees it, with its final value if it has one."""
    return Observation(
        trial.number,
        dict(trial.params),
        trial.state,
        trial.value if trial.state in COUNTED else None,
        trial.failure.cls if trial.failure and trial.state is TrialState.FAILED else None,
        by_hand=trial.by_hand,
    )


def _value_at(trial: Observation, at: Mapping[int, float], rung: int | None) -> float | None:
    """Return a trial's value at a rung, or at its end; None if it was stopped before."""
    ended = trial.value if trial.state is TrialState.COMPLETED else None
    return ended if rung is None else at.get(rung, ended)

"""The stopping rule's decisions on waiting trials, and what a search method learns from them.

A trial that is stopped at a rung has no model file yet: writing one for each would make a rung cost more than
its epochs. If it is among the best, whose models are kept, it is queued once more to end at its rung, and a
worker then writes its model from its checkpoint. All others end where they wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kerasweep.jobs.store.decision import Decision
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, TrialState
from kerasweep.jobs.variants import Variant, variants_of
from kerasweep.scheduler.samplers import Observation
from kerasweep.scheduler.stopping import StoppingRule, Track, rule_for

#: Ends the journal reason of a stopped trial that still has to write its model.
WRITES_MODEL = "; it is among the best, so its model is written"
_WAITING = (TrialState.WAITING,)


def judge_waiting(decision: Decision, rule: StoppingRule) -> None:
    """Resume or end the waiting trials, as far as that can be decided now."""
    first = rule.base(decision.settled())
    while decision.counts().get(TrialState.WAITING):
        values = decision.rung_values(first)
        tracks = {one.number: track_of(one, values.get(one.number, {})) for one in decision.trials(first)}
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
        return tuple(_observed_variant(one, trials) for one in variants_of(spec, trials))
    if not learned:
        return tuple(_observed(trial, trial.value, known=True) for trial in trials)
    enough = len(spec.space().varied) + 2
    heights: list[int | None] = [None]  # the end first, then the rungs from the top
    heights += sorted({rung for one in trials[:learned] for rung in rungs.get(one.number, {})}, reverse=True)
    values: dict[int, float | None] = {}
    for rung in heights:
        values = {one.number: _value_at(one, rungs.get(one.number, {}), rung) for one in trials[:learned]}
        if sum(value is not None for value in values.values()) >= enough:
            break
    return tuple(
        _observed(one, values.get(one.number), known=values.get(one.number) is not None or _failed(one))
        for one in trials
    )


def track_of(trial: TrialRecord, at: Mapping[int, float]) -> Track:
    """Return a trial's curve as a stopping rule sees it; a trial that only has to end counts as ended."""
    stands = trial.rung if trial.state is TrialState.WAITING else None
    value = trial.value if trial.state is TrialState.COMPLETED else None
    return Track(trial.number, at, stands, trial.state.final or trial.ends, value)


def _value_at(trial: TrialRecord, at: Mapping[int, float], rung: int | None) -> float | None:
    """Return a trial's value at a rung, or at its end; None if it was stopped before."""
    ended = trial.value if trial.state is TrialState.COMPLETED else None
    return ended if rung is None else at.get(rung, ended)


def _failed(trial: TrialRecord) -> bool:
    return trial.state is TrialState.FAILED


def _observed_variant(variant: Variant, trials: Sequence[TrialRecord]) -> Observation:
    cls, by_hand = variant.failure.cls if variant.failure else None, trials[variant.trials[0]].by_hand
    return Observation(
        variant.number, dict(variant.params), variant.state, variant.value, cls, by_hand=by_hand
    )


def _observed(trial: TrialRecord, value: float | None, *, known: bool) -> Observation:
    return Observation(
        trial.number,
        dict(trial.params),
        trial.state,
        value if trial.state in COUNTED else None,
        trial.failure.cls if trial.failure and trial.state is TrialState.FAILED else None,
        known,
        trial.by_hand,
    )

"""What a sweep learns from an earlier one: its results at points of this sweep's space, by its metric.

They are copied into the records of the new sweep, so its decisions can be repeated after the earlier sweep
is gone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.models import EarlierResult, EpochRecord, SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.dimension import Dimension, identity
from kerasweep.jobs.sweepfile.method import LEARNING
from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.sweepfile.template import ROOT
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState
from kerasweep.scheduler.samplers.evolution import EARLIER_NEEDED
from kerasweep.scheduler.samplers.teaching import BEST, MOST
from kerasweep.scheduler.stopping import rule_for

_TRAINING = ROOT + "."
_TWICE = "they have the values of another, which counts with the mean"
_MANY = "a method learns from no more than these"


@dataclass(frozen=True)
class WarmStart:
    """What was taken from an earlier sweep.

    Args:
        sweep: its id.
        name: its name.
        trials: the number of its trials.
        taken: the number of results to learn from.
        left_out: the number of trials left out, by reason.
        ignored: its parameters that this sweep does not have.
        repeated: how many start points of this sweep the earlier one has tried.
    """

    sweep: str
    name: str
    trials: int
    taken: int
    left_out: Mapping[str, int]
    ignored: Sequence[str]
    repeated: int


def take(records: Records, name: str, spec: SweepSpec) -> tuple[list[EarlierResult], WarmStart]:
    """Return the results of an earlier sweep that a sweep can learn from, oldest first, and what they are.

    Args:
        records: where the earlier sweep is.
        name: its id, or a unique prefix of it, or its name.
        spec: the new sweep.

    Raises:
        InputError: the method does not learn, or nothing can be learned from that sweep.
        NotFound: there is no such sweep.
    """
    if spec.method.name not in LEARNING:
        raise InputError(
            f"a sweep is warmed by another only if its method learns from results, got method "
            f"'{spec.method.name}'\n"
            "Write `method: auto` in the sweep file, or leave out warm_from (--warm-from)"
        )
    sweep = records.find_sweep(name)
    taking = _Taking(spec, sweep)
    found = list(taking.results(records.trials(sweep.id), records.epochs(sweep.id)))
    needed = EARLIER_NEEDED if spec.method.name == "cmaes" else 1
    if len(found) < needed:
        raise InputError(
            f"method '{spec.method.name}' needs at least {needed} results of an earlier sweep to learn from, "
            f"and {sweep.name} ({sweep.id}) has {len(found)}{_because(taking.left_out)}\n"
            "Leave out warm_from (--warm-from), or name another sweep"
        )
    kept = _newest_and_best(found, maximize=spec.metric.goal == "maximize")
    if len(kept) < len(found):
        taking.left_out[_MANY] += len(found) - len(kept)
    points = {identity(dict(one.params)) for one in kept}
    repeated = sum(identity(point) in points for point in spec.start_points())
    known = spec.space().dimensions
    theirs = sweep.spec.space().varied
    ignored = [one for one in theirs if one not in known and not one.startswith(_TRAINING)]
    counts = taking.seen, len(kept), dict(taking.left_out)
    return kept, WarmStart(sweep.id, sweep.name, *counts, ignored, repeated)


class _Taking:
    """Translates the trials of an earlier sweep, and counts those left out by reason."""

    def __init__(self, spec: SweepSpec, sweep: SweepRecord) -> None:
        self._spec, self._sweep, self._space = spec, sweep, spec.space()
        rule = rule_for(spec)
        self._rungs = () if rule is None else tuple(rule.rungs())
        self._better = max if spec.metric.goal == "maximize" else min
        self.left_out: Counter[str] = Counter()
        self.seen = 0

    def results(
        self, trials: Sequence[TrialRecord], epochs: Mapping[int, Sequence[EpochRecord]]
    ) -> Iterator[EarlierResult]:
        """Yield what can be learned from; trials with the same values count once, with their mean."""
        alike: dict[str, list[EarlierResult]] = {}
        for trial in trials:
            self.seen += 1
            try:
                found = self._result(trial, epochs.get(trial.number, ()))
                alike.setdefault(identity(dict(found.params)), []).append(found)
            except _LeftOut as why:
                self.left_out[str(why)] += 1
        for group in alike.values():
            if len(group) > 1:
                self.left_out[_TWICE] += len(group) - 1
            yield _mean(group)

    def _result(self, trial: TrialRecord, epochs: Sequence[EpochRecord]) -> EarlierResult:
        """Return a trial's result.

        Raises:
            _LeftOut: it has none.
        """
        failure = trial.failure.cls if trial.failure and trial.state is TrialState.FAILED else None
        if trial.state not in COUNTED and failure is not FailureClass.DIVERGED:
            raise _LeftOut("they ended without a result" if trial.state.final else "they have not ended")
        params = self._translate(trial)
        if failure is not None:
            return EarlierResult(self._sweep.id, trial.number, trial.state, params, None, {})
        name = self._spec.metric.name
        known = {one.epoch: one.metrics[name] for one in epochs if name in one.metrics}
        known = {epoch: value for epoch, value in known.items() if math.isfinite(value)}
        if not known:
            raise _LeftOut(f"they have no {name}")
        reached = [rung for rung in self._rungs if min(known) <= rung <= max(known)]
        rungs = {rung: self._best(known, rung) for rung in reached}
        value = self._best(known, max(known))
        return EarlierResult(self._sweep.id, trial.number, trial.state, params, value, rungs)

    def _best(self, values: Mapping[int, float], until: int) -> float:
        return self._better(value for epoch, value in values.items() if epoch <= until)

    def _translate(self, trial: TrialRecord) -> Params:
        """Return a trial's point in this sweep's space.

        Raises:
            _LeftOut: it has none.
        """
        there = self._sweep.spec

        def value_of(name: str, dimension: Dimension) -> Any:
            value = trial.params.get(name, _MISSING)
            if value is _MISSING and name.startswith(_TRAINING):
                value = _fixed(there, trial.params, name)
            if value is _MISSING:
                raise _LeftOut(f"'{name}' is missing")
            if not dimension.contains(value):
                raise _LeftOut(f"'{name}' is outside the space")
            return value

        params = self._space.choose(value_of)
        for name, value in trial.params.items():
            swept_here = name in self._space.dimensions or not name.startswith(_TRAINING)
            if not swept_here and identity(_fixed(self._spec, params, name)) != identity(value):
                raise _LeftOut(f"'{name}' differs from the value fixed here")
        return params


class _LeftOut(Exception):
    """Why a trial is left out; it does not leave this module."""


class _Missing:
    """Stands for a value that a trial does not have."""


_MISSING: Any = _Missing()


def _fixed(spec: SweepSpec, params: Mapping[str, Any], name: str) -> Any:
    """Return the value under `training` that a sweep file fixes, by dotted name."""
    found: Any = spec.training_for(params).model_dump(mode="json")
    for key in name.split(".")[1:]:
        found = found.get(key, _MISSING) if isinstance(found, Mapping) else _MISSING
    return found


def _mean(group: Sequence[EarlierResult]) -> EarlierResult:
    values = [one.value for one in group if one.value is not None]
    first = group[0]
    if len(group) == 1 or len(values) < len(group):  # one that diverged speaks for all of them
        return next((one for one in group if one.value is None), first)
    shared = set.intersection(*(set(one.rungs) for one in group))
    rungs = {rung: fmean(one.rungs[rung] for one in group) for rung in sorted(shared)}
    return EarlierResult(first.source, first.trial, first.state, first.params, fmean(values), rungs)


def _newest_and_best(found: Sequence[EarlierResult], *, maximize: bool) -> list[EarlierResult]:
    """Return what a method would learn from: the best, and the newest of the others."""
    sign = -1.0 if maximize else 1.0
    known = [one for one in found if one.value is not None]
    best = sorted(known, key=lambda one: (sign * (one.value or 0.0), one.trial))[:BEST]
    kept = {one.trial for one in best}
    kept |= {one.trial for one in [one for one in found if one.trial not in kept][BEST - MOST :]}
    return [one for one in found if one.trial in kept]


def _because(left_out: Mapping[str, int]) -> str:
    told = "; ".join(f"{count}: {reason}" for reason, count in left_out.items())
    return f" ({told})" if told else ""

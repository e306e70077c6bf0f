"""Variants: where a sweep has `repeats`, several trials with the same values and different seeds are one.

Trials `times * n` to `times * (n + 1) - 1` are those of variant n. Its value is the mean over its trials,
once all of them have ended. What diverged under one seed counts as diverged; a trial that failed or was
cancelled for another reason is left out of the mean. Everything that compares variants goes through here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from kerasweep.jobs.trial import COUNTED, Failure, FailureClass, TrialState

if TYPE_CHECKING:
    from kerasweep.jobs.sweepfile.spec import SweepSpec


class Repeated(Protocol):
    """What is needed of a trial, whether it is a record or what a client returns."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def number(self) -> int: ...
    @property
    def state(self) -> TrialState: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def seed(self) -> int: ...
    @property
    def value(self) -> float | None: ...
    @property
    def failure(self) -> Failure | None: ...


#: A trial of one kind.
_Trial = TypeVar("_Trial", bound=Repeated)


@dataclass(frozen=True)
class Variant:
    """The trials of a sweep that differ in their seed alone.

    Args:
        number: from 0.
        params: their values, by name.
        state: their state together: that of one which has not ended, where there is one.
        trials: their numbers.
        seeds: their seeds.
        values: the value of each; None for one that has none that counts.
        value: the mean of these, once all have ended; None if there is none, or one of them diverged.
        std: their sample standard deviation; None for fewer than two.
        best: the number of the trial with the best value, if any: the variant's model is that trial's.
        failure: why the variant failed, if it did.
    """

    number: int
    params: Mapping[str, Any]
    state: TrialState
    trials: tuple[int, ...]
    seeds: tuple[int, ...]
    values: tuple[float | None, ...]
    value: float | None
    std: float | None
    best: int | None
    failure: Failure | None

    @property
    def lowest(self) -> float | None:
        """The lowest of the values."""
        return min((value for value in self.values if value is not None), default=None)

    @property
    def highest(self) -> float | None:
        """The highest of the values."""
        return max((value for value in self.values if value is not None), default=None)

    @classmethod
    def of(cls, number: int, trials: Sequence[Repeated], *, maximize: bool) -> Variant:
        """Assemble a variant from its trials."""
        state, failure = _state_of(trials)
        values = tuple(one.value if one.state in COUNTED else None for one in trials)
        known = [value for value in values if value is not None]
        counts = state in COUNTED and not any(
            one.state in COUNTED and one.value is None for one in trials
        )  # a NaN is recorded as None
        sign = -1.0 if maximize else 1.0
        ranked = sorted(
            (sign * value, one.number) for one, value in zip(trials, values, strict=True) if value is not None
        )
        return cls(
            number,
            trials[0].params,
            state,
            tuple(one.number for one in trials),
            tuple(one.seed for one in trials),
            values,
            fmean(known) if counts and known else None,
            stdev(known) if len(known) > 1 and all(map(math.isfinite, known)) else None,
            ranked[0][1] if ranked else None,
            failure,
        )


def variants_of(spec: SweepSpec, trials: Sequence[Repeated]) -> list[Variant]:
    """Return the variants of a sweep, by number.

    Args:
        spec: the sweep file.
        trials: all trials of the sweep, or the first ones, by number.
    """
    times, maximize = spec.times, spec.metric.goal == "maximize"
    return [
        Variant.of(number, trials[number * times : (number + 1) * times], maximize=maximize)
        for number in range(len(trials) // times)
    ]


def ranked_variants(spec: SweepSpec, trials: Sequence[Repeated]) -> list[Variant]:
    """Return the variants that have a value, best first; ties by lower number."""
    sign = -1.0 if spec.metric.goal == "maximize" else 1.0
    known = [(one.value, one) for one in variants_of(spec, trials) if one.value is not None]
    return [one for _, one in sorted(known, key=lambda pair: (sign * pair[0], pair[1].number))]


def condensed(spec: SweepSpec, trials: Sequence[_Trial]) -> list[_Trial]:
    """Return one trial for each variant: the best of it, with the variant's number, state and mean value."""
    if spec.times == 1:
        return list(trials)
    return [
        replace(
            trials[one.trials[0] if one.best is None else one.best],
            number=one.number,
            state=one.state,
            value=one.value,
            failure=one.failure,
        )
        for one in variants_of(spec, trials)
    ]


def seed_of(spec: SweepSpec, trial: int) -> int:
    """Return the seed of a trial: its own, or that of its repeat, which is the same in every variant."""
    from kerasweep.jobs import seeds  # loads NumPy, which commands that only read do not need

    if isinstance(spec.repeats, int):
        repeat, times = seeds.repeat_seed, spec.repeats
        return seeds.trial_seed(spec.seed, trial) if times == 1 else repeat(spec.seed, trial % times)
    return spec.repeats[trial % spec.times]


def _state_of(trials: Sequence[Repeated]) -> tuple[TrialState, Failure | None]:
    """Return the state of several trials together, and why they failed, if they did."""
    open_ = [one.state for one in trials if not one.state.final]
    if open_:
        return open_[0], None
    failed = [one.failure for one in trials if one.state is TrialState.FAILED and one.failure]
    diverged = [one for one in failed if one.cls is FailureClass.DIVERGED]
    if diverged:
        return TrialState.FAILED, diverged[0]
    states = [one.state for one in trials]
    counted = [state for state in (TrialState.COMPLETED, TrialState.STOPPED) if state in states]
    if counted:
        return counted[0], None
    return (TrialState.FAILED, failed[0]) if failed else (states[0], None)

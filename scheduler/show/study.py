"""A sweep's records as an in-memory Optuna study, for its visualisation, and which of its trials compare."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from kerasweep.jobs.sweepfile.dimension import Dimension, Range, identity
from kerasweep.jobs.trial import COUNTED, TrialState
from kerasweep.scheduler.client import wording

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from kerasweep.jobs.store.models import SweepRecord, TrialRecord
    from kerasweep.scheduler.client.objects import Trial

#: With fewer trials than this, importances say little.
ENOUGH = 20

#: A trial of the records, or the client's.
Told = TypeVar("Told", "TrialRecord", "Trial")


class Ended(Protocol):
    """What a study needs of a trial: that of the records, or the client's."""

    @property
    def state(self) -> TrialState: ...

    @property
    def value(self) -> float | None: ...

    @property
    def params(self) -> Mapping[str, Any]: ...


def study_of(sweep: SweepRecord, trials: Sequence[Ended], show: Callable[[str], str] = str) -> optuna.Study:
    """Return a study whose complete trials are those that count, with parameters under their short names.

    Args:
        sweep: the sweep.
        trials: all its trials, by number.
        show: makes a text from the sweep file safe to draw.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A parameter that never varies explains nothing.
    axes = Axes(sweep, show)
    study = optuna.create_study(direction=sweep.spec.metric.goal, study_name=sweep.name)
    # Trials that do not count are added as failed ones, so that the numbers match ours.
    study.add_trials([_frozen(trial, axes) if counts(trial) else _failed() for trial in trials])
    return study


def shares_of(
    sweep: SweepRecord, trials: Sequence[Ended], show: Callable[[str], str] = str
) -> dict[str, float]:
    """Return each parameter's share of what explains the value (PED-ANOVA), the largest first; none if too
    few values differ.

    Args:
        sweep: the sweep.
        trials: those to compare; variants with their means, in a sweep with `repeats`.
        show: makes a text from the sweep file safe to draw.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if len({one.value for one in trials}) < 2:
        return {}  # Optuna warns, and returns equal shares
    study = study_of(sweep, trials, show)
    with suppress(ValueError, RuntimeError, ZeroDivisionError):  # too few values differ
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return {}


class Axes:
    """The parameters of a sweep that vary, for Optuna.

    Args:
        sweep: the sweep.
        show: makes a text from the sweep file safe to draw.
    """

    def __init__(self, sweep: SweepRecord, show: Callable[[str], str] = str) -> None:
        self._axes = {name: _Axis(dimension, show) for name, dimension in sweep.spec.space().varied.items()}
        self._names = {name: show(text) for name, text in wording.short_names(self._axes).items()}

    def params(self, trial: Ended) -> dict[str, Any]:
        """Return a trial's values under their short names."""
        return {
            self._names[name]: self._axes[name].label(value)
            for name, value in trial.params.items()
            if name in self._axes
        }

    def distributions(self, trial: Ended) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters that a trial has, under their short names."""
        return {
            self._names[name]: axis.distribution for name, axis in self._axes.items() if name in trial.params
        }


def counts(trial: Ended) -> bool:
    """Tell whether a trial has ended with a comparable value."""
    return trial.state in COUNTED and trial.value is not None and math.isfinite(trial.value)


@dataclass(frozen=True)
class Comparable(Generic[Told]):
    """Trials whose values are of the same training length.

    Args:
        trials: each with its best value up to the epoch.
        epoch: the epoch of a rung; None if the values are final.
        without: how many others have a value, but were stopped earlier.
    """

    trials: Sequence[Told]
    epoch: int | None
    without: int

    @classmethod
    def of(cls, trials: Sequence[Told], rungs: Mapping[int, Mapping[int, float]]) -> Comparable[Told]:
        """Compare trials at their ends or, if too many were stopped, at the highest rung that enough reached.

        If no rung has enough, it is the one with the most.

        Args:
            trials: a sweep's trials, or some of them.
            rungs: their best values up to each rung, by number and epoch.
        """
        counted: list[Told] = [one for one in trials if counts(one)]
        best = cls((), None, 0)
        heights: list[int] = sorted(
            {rung for one in counted for rung in rungs.get(one.number, ())}, reverse=True
        )
        for rung in (None, *heights):
            found = list(_at_rung(counted, rungs, rung))
            if len(found) > len(best.trials):
                best = cls(found, rung, len(counted) - len(found))
            if len(found) >= ENOUGH:
                break
        return best


def _at_rung(
    trials: Sequence[Told], rungs: Mapping[int, Mapping[int, float]], rung: int | None
) -> Iterator[Told]:
    """Yield the trials that have a value at a rung, or a final one, with that value."""
    for one in trials:
        if one.state is TrialState.COMPLETED and (rung is None or one.epochs <= rung):
            yield one
        elif rung is not None and rung in (at := rungs.get(one.number, {})):
            yield replace(one, value=at[rung])


def _failed() -> optuna.trial.FrozenTrial:
    import optuna

    return optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)


def _frozen(trial: Ended, axes: Axes) -> optuna.trial.FrozenTrial:
    import optuna

    return optuna.trial.create_trial(
        value=trial.value, params=axes.params(trial), distributions=axes.distributions(trial)
    )


class _Axis:
    """A dimension for plots: a range unchanged, a choice by readable labels.

    Args:
        dimension: ours.
        show: makes a text from the sweep file safe to draw.
    """

    def __init__(self, dimension: Dimension, show: Callable[[str], str]) -> None:
        from optuna.distributions import CategoricalDistribution

        from kerasweep.scheduler.samplers.translate import Form

        self._show = show
        self._labels: dict[str, Any] = {}
        self.distribution: BaseDistribution
        if isinstance(dimension, Range):
            self.distribution = Form("", dimension).distribution
            return
        for value in dimension.grid() or ():
            self._labels[identity(value)] = self._new_label(value)
        self.distribution = CategoricalDistribution(list(self._labels.values()))

    def label(self, value: Any) -> Any:
        """Return the label of a value on the axis."""
        return self._labels.get(identity(value), value) if self._labels else value

    def _new_label(self, value: Any) -> Any:
        if isinstance(value, int | float):
            return value
        label = self._show(wording.brief(value))
        return label if label not in self._labels.values() else f"{label} ({len(self._labels)})"

"""Converts dimensions and values for Optuna: a choice becomes its index, a constant a choice of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from kerasweep.jobs.sweepfile.dimension import Dimension, Quantised, Range, Stepped, WholeRange, identity

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


class Form:
    """One dimension for Optuna.

    Args:
        name: the parameter's.
        dimension: ours.
    """

    def __init__(self, name: str, dimension: Dimension) -> None:
        self._name, self._dimension = name, dimension
        self._listed = [] if isinstance(dimension, Range) else list(dimension.grid() or ())
        self._index = {identity(value): index for index, value in enumerate(self._listed)}
        self.distribution = _distribution(dimension)

    def encode(self, value: JsonValue) -> JsonValue:
        """Convert a value for Optuna."""
        return self._index[identity(value)] if self._listed else value

    def choose(self, trial: optuna.Trial) -> JsonValue:
        """Let Optuna choose a value."""
        from optuna.distributions import FloatDistribution, IntDistribution

        form = self.distribution
        if isinstance(form, IntDistribution):
            return trial.suggest_int(self._name, form.low, form.high, log=form.log)
        if isinstance(form, FloatDistribution):
            value = trial.suggest_float(self._name, form.low, form.high, step=form.step, log=form.log)
            return self._dimension.snap(value) if isinstance(self._dimension, Stepped) else value
        return self._listed[trial.suggest_categorical(self._name, range(len(self._listed)))]


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Convert a dimension for Optuna. Log steps become a log range whose draws are snapped."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, WholeRange):
        return IntDistribution(dimension.min, dimension.max, log=dimension.logarithmic)
    if isinstance(dimension, Quantised):
        high, log = dimension.grid()[-1], dimension.logarithmic
        return FloatDistribution(dimension.min, high, log=log, step=None if log else dimension.q)
    if isinstance(dimension, Range):
        return FloatDistribution(dimension.min, dimension.max, log=dimension.logarithmic)
    return CategoricalDistribution(range(len(dimension.grid() or ())))

"""Points of a scrambled Sobol sequence, which cover the space more evenly than random draws.

Sobol (1967); Owen, Scrambling Sobol' and Niederreiter-Xing Points (1998); for hyperparameters, Bousquet et
al., Critical Hyper-Parameters: No Random, No Cry (2017). The sequence is SciPy's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from kerasweep.jobs.seeds import method_rng
from kerasweep.jobs.sweepfile.dimension import Dimension
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion
from kerasweep.scheduler.samplers.random import Draws

if TYPE_CHECKING:
    from numpy.random import Generator

_BELOW_ONE = 1.0 - 2.0**-53


class Quantile:
    """Replaces a random generator: its draws give one quantile, from 0 to 1."""

    def __init__(self, quantile: float) -> None:
        self._quantile = min(max(quantile, 0.0), _BELOW_ONE)

    def uniform(self, low: float, high: float) -> float:
        """Return that quantile of a range."""
        return low + self._quantile * (high - low)

    def integers(self, high: int) -> int:
        """Return that quantile of the whole numbers below `high`."""
        return min(int(self._quantile * high), high - 1)


def value_at(dimension: Dimension, quantile: float) -> JsonValue:
    """Return the value at a quantile, from 0 to 1, of what a dimension draws."""
    return dimension.sample(cast("Generator", Quantile(quantile)))


class Sobol:
    """The sequence over a space; a point depends only on its number.

    Args:
        space: conditional dimensions that do not exist at a point are dropped from it.
        seed: the sweep's.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._names = list(space.varied)

    def points(self, start: int) -> Iterator[Params]:
        """Yield the points from number `start` on."""
        from scipy.stats import qmc

        if not self._names:
            while True:
                yield self._params({})
        engine: Any = qmc.Sobol(len(self._names), scramble=True, rng=method_rng(self._seed, "qmc"))
        if start:
            engine.fast_forward(start)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The balance properties", category=UserWarning)
            while True:
                yield self._params(dict(zip(self._names, map(float, engine.random(1)[0]), strict=True)))

    def _params(self, quantiles: dict[str, float]) -> Params:
        return self._space.choose(lambda name, dimension: value_at(dimension, quantiles.get(name, 0.0)))


class QmcSampler:
    """Point n of the sequence for trial n; in a finite space, a random draw if the point is taken."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed

    def suggest(
        self,
        trials: Sequence[Observation],
        wanted: int,
        learned: int | None = None,
        earlier: Sequence[Observation] = (),
    ) -> list[Suggestion]:
        draws = Draws(self._space, self._seed, trials)
        suggestions: list[Suggestion] = []
        points = Sobol(self._space, self._seed).points(len(trials))
        for number in range(len(trials), len(trials) + wanted):
            suggestion = spread_point(number, next(points), draws)
            if suggestion is None:
                break
            suggestions.append(suggestion)
        return suggestions


def spread_point(number: int, point: Params, draws: Draws) -> Suggestion | None:
    """Return a point of the sequence, or a random draw if it is taken; None if the space is exhausted."""
    if draws.is_new(point):
        draws.note(point)
        return Suggestion(point, f"point {number} of a Sobol sequence")
    params = draws.draw(number)
    if params is None:
        return None
    draws.note(params)
    return Suggestion(params, f"drawn at random: point {number} of the Sobol sequence was taken already")

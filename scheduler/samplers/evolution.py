"""CMA-ES: a normal distribution over the space that moves towards the best of each generation.

Hansen and Ostermeier, Completely Derandomized Self-Adaptation in Evolution Strategies (2001); the package
`cmaes` (Nomura and Shibata, 2024). A generation is drawn when the previous one has ended, independent of
speed; if a stopping rule limits what to learn from, results are reported in generations by trial number.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasweep.jobs.seeds import method_rng
from kerasweep.jobs.sweepfile.dimension import Choice, Dimension, Range, identity
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion
from kerasweep.scheduler.samplers.qmc import value_at
from kerasweep.scheduler.samplers.random import Draws
from kerasweep.scheduler.samplers.requirements import missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ASKS = 16
#: The initial distribution: centred, with a standard deviation of a third of the space.
_MIDDLE, _WIDTH = 0.5, 1.0 / 3.0
#: The results of an earlier sweep from which the initial distribution is derived: the best tenth of at least
#: these (Nomura et al., Warm Starting CMA-ES, 2021).
EARLIER_NEEDED = 20


class CmaesSampler:
    """The method.

    Args:
        space: purely numeric, without conditions.
        seed: the sweep's.
        maximize: whether larger values of the metric are better.
        generation: the number of trials per generation; None for 4 + 3 ln(parameters), at least 8.
    """

    def __init__(self, space: Space, seed: int, maximize: bool, generation: int | None) -> None:
        self._space, self._seed, self._maximize = space, seed, maximize
        self._names = list(space.varied)
        self._size = size_of_generation(space, generation)
        # What was told to the strategy is kept only to save time: the same trials give the same strategy.
        self._told: list[Observation] = []
        self._strategy: Any = None
        self._earlier: list[Observation] = []

    def suggest(
        self,
        trials: Sequence[Observation],
        wanted: int,
        learned: int | None = None,
        earlier: Sequence[Observation] = (),
    ) -> list[Suggestion]:
        if len(earlier) != len(self._earlier) or not all(map(is_, earlier, self._earlier)):
            self._earlier, self._strategy = list(earlier), None
        draws = Draws(self._space, self._seed, trials)
        suggestions: list[Suggestion] = []
        state: tuple[int, Any] | None = None
        for number in range(len(trials), len(trials) + wanted):
            told = (number if learned is None else learned) // self._size * self._size
            if state is None or state[0] != told:
                strategy = self._strategy_after(told, trials, number - told)
                if strategy is None:
                    break
                state = told, strategy
            suggestion = self._draw(state[1], number, told, draws)
            if suggestion is None:
                break
            draws.note(suggestion.params)
            suggestions.append(suggestion)
        return suggestions

    def _strategy_after(self, count: int, trials: Sequence[Observation], drawn: int) -> Any:
        """Return the strategy after learning from the first trials, and drawing this many points since.

        None if one of these trials has not ended.
        """
        if self._strategy is None or len(self._told) > count or not all(map(is_, self._told, trials)):
            self._told, self._strategy = [], self._new_strategy()
        fresh = trials[len(self._told) : count]
        if count > len(trials) or not all(trial.state.final for trial in fresh):
            return None
        for start in range(0, len(fresh), self._size):
            self._tell(fresh[start : start + self._size])
        cma = copy.deepcopy(self._strategy)
        cma.reseed_rng(int(method_rng(self._seed, "cmaes", count).integers(1 << 31)))
        for _ in range(drawn * _ASKS):
            cma.ask()
        return cma

    def _new_strategy(self) -> Any:
        """Return the initial distribution: around the best of an earlier sweep, if there is one."""
        results = [(one, one.outcome(self._maximize)) for one in self._earlier]
        told = [(self._point(one.params), loss) for one, loss in results if loss is not None]
        return _cma(len(self._names), self._size, self._seed, told if len(told) >= EARLIER_NEEDED else [])

    def _tell(self, generation: Sequence[Observation]) -> None:
        losses = [trial.outcome(self._maximize) for trial in generation]
        # A trial without a result ranks last, like one that diverged.
        values = [math.inf if loss is None else loss for loss in losses]
        points = [self._point(trial.params) for trial in generation]
        if self._names:
            self._strategy.tell(list(zip(points, values, strict=True)))
        self._told += generation

    def _draw(self, cma: Any, number: int, told: int, draws: Draws) -> Suggestion | None:
        # The same number of draws for each trial, new or not, so that a trial's do not depend on those before
        # it.
        asked = [self._params(cma.ask()) for _ in range(_ASKS)]
        reason = f"CMA-ES after {told // self._size} generations of {self._size}"
        for params in asked:
            if draws.is_new(params):
                return Suggestion(params, reason)
        spent = draws.draw(number)
        return None if spent is None else Suggestion(spent, f"drawn at random: {reason} gave nothing new")

    def _params(self, point: NDArray[np.float64]) -> Params:
        quantiles = dict(zip(self._names, map(float, point), strict=False))
        return self._space.choose(lambda name, dimension: value_at(dimension, quantiles.get(name, 0.0)))

    def _point(self, params: Params) -> NDArray[np.float64]:
        dimensions = self._space.dimensions
        point = [quantile_of(dimensions[name], params[name]) for name in self._names]
        return np.array([*point, *[_MIDDLE] * (2 - len(point))])


def size_of_generation(space: Space, written: int | None) -> int:
    """Return the number of trials in a generation: as written, or 4 + 3 ln(parameters), at least 8."""
    return written or max(8, 4 + int(3 * math.log(max(1, len(space.varied)))))


def quantile_of(dimension: Dimension, value: Any) -> float:
    """Return the quantile, from 0 to 1, of a value in what a dimension draws: the middle of those that give
    it.
    """
    if isinstance(dimension, Range) and dimension.grid() is None:
        low, high, at = float(dimension.min), float(dimension.max), float(value)
        if dimension.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low)
    grid = list(dimension.grid() or ())
    if isinstance(dimension, Choice) or not getattr(dimension, "logarithmic", False):
        return ([identity(known) for known in grid].index(identity(value)) + 0.5) / len(grid)
    below, above = 0.0, 1.0  # log steps: the quantile whose draw gives this value, found by bisection
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if value_at(dimension, middle) < value else (below, middle)
    return (below + above) / 2


def _cma(dimensions: int, size: int, seed: int, earlier: list[tuple[NDArray[np.float64], float]]) -> Any:
    try:
        from cmaes import CMA, get_warm_start_mgd
    except ImportError as exc:
        raise missing("cmaes") from exc
    count = max(2, dimensions)  # the package supports no one-dimensional space
    mean, sigma, cov = np.full(count, _MIDDLE), _WIDTH, None
    if earlier:
        mean, sigma, cov = get_warm_start_mgd(earlier)
    return CMA(
        mean=mean,
        sigma=sigma,
        cov=cov,
        bounds=np.tile([0.0, 1.0], (count, 1)),
        population_size=size,
        seed=seed & 0x7FFF_FFFF,
    )

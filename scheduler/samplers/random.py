"""Independent draws, without repetition in a finite space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from kerasweep.jobs.seeds import suggestion_rng
from kerasweep.jobs.sweepfile.dimension import identity
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion

#: Draws before the remaining points are searched one by one.
_DRAWS = 64
#: The maximum number of points searched.
_LEFT = 4096


class Draws:
    """Draws trial n from its own random stream, so that neither order nor budget affects it.

    Args:
        space: the space.
        seed: the sweep's.
        trials: points not to repeat in a finite space.
    """

    def __init__(self, space: Space, seed: int, trials: Sequence[Observation]) -> None:
        self._space, self._seed = space, seed
        self._size = space.grid_size()
        self._seen = set() if self._size is None else {trial.point for trial in trials}

    def note(self, params: Params) -> None:
        """Mark these values as used."""
        if self._size is not None:
            self._seen.add(identity(params))

    def is_new(self, params: Params) -> bool:
        """Tell whether these values are unused; always true in a continuous space."""
        return identity(params) not in self._seen

    def draw(self, number: int) -> Params | None:
        """Return values for a trial, None if the space is exhausted."""
        if self._size is not None and len(self._seen) >= self._size:
            return None
        rng = suggestion_rng(self._seed, number)
        for _ in range(_DRAWS):
            params = self._space.sample(rng)
            if self.is_new(params):
                return params
        left = list(islice(filter(self.is_new, self._space.grid()), _LEFT))
        return left[int(rng.integers(len(left)))] if left else None


class RandomSampler:
    """Bergstra and Bengio, Random Search for Hyper-Parameter Optimization (2012)."""

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
        for number in range(len(trials), len(trials) + wanted):
            params = draws.draw(number)
            if params is None:
                break
            draws.note(params)
            suggestions.append(Suggestion(params, "drawn at random"))
        return suggestions

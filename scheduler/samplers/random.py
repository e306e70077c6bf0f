"""Independent draws without repetition where the space is finite."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from kerasweep.jobs.seeds import suggestion_rng
from kerasweep.jobs.sweepfile.dimension import identity
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion

#: Draws before the remaining points are searched one by one.
_DRAWS = 64
#: How many of those are looked at.
_LEFT = 4096


class Draws:
    """Draws trial n from a stream of its own, so that neither order nor budget shows in it.

    Args:
        space: to draw from.
        seed: the sweep's.
        trials: those that must not come again, where the space is finite.
    """

    def __init__(self, space: Space, seed: int, trials: Sequence[Observation]) -> None:
        self._space, self._seed = space, seed
        self._size = space.grid_size()
        self._seen: set[str] = set()
        for trial in trials:
            self.note(trial.params)

    def note(self, params: Params) -> None:
        """Let these values not come again."""
        if self._size is not None:
            self._seen.add(identity(params))

    def is_new(self, params: Params) -> bool:
        """Tell whether these values may come; always so where the space is continuous."""
        return identity(params) not in self._seen

    def draw(self, number: int) -> Params | None:
        """Return values for a trial, None where the space is spent."""
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
        self, trials: Sequence[Observation], wanted: int, learned: int | None = None
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

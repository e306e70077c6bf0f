"""Every combination: in file order if the budget allows them all, else spread over the whole grid.

Which of the two depends on the sweep file alone, so a sweep that is extended later continues in its original
order, to the last point.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from kerasweep.jobs.sweepfile.space import Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion
from kerasweep.scheduler.samplers.spread import Spread


class GridSampler:
    """Enumerates a finite space.

    Args:
        space: with finite dimensions only.
        seed: the sweep's.
        max_trials: the budget in the sweep file, None for none.
    """

    def __init__(self, space: Space, seed: int, max_trials: int | None) -> None:
        self._space, self._seed = space, seed
        self._size = sum(cell.size for cell in space.cells())
        self._cut = max_trials is not None and max_trials < self._size

    def suggest(
        self,
        trials: Sequence[Observation],
        wanted: int,
        learned: int | None = None,
        earlier: Sequence[Observation] = (),
    ) -> list[Suggestion]:
        start = sum(not trial.by_hand for trial in trials)
        stop = start + wanted
        if self._cut:
            points = Spread(self._space, self._seed).points(start, stop)
            note = f"of {self._size}, from all over the grid"
        else:
            points = islice(self._space.grid(), start, stop)
            note = f"of {self._size} of the grid"
        return [
            Suggestion(params, f"point {number} {note}") for number, params in enumerate(points, start + 1)
        ]

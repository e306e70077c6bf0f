"""The results that a model learns from: at most 100, so that a decision costs as much after 10,000 trials."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence
from operator import is_

from kerasweep.scheduler.samplers.protocol import Observation

Result = tuple[Observation, float]

#: The maximum number of results to learn from, including the best.
MOST, BEST = 100, 25


class Teaching:
    """The best results, and the newest of the others, kept up to date as trials end.

    What was seen is kept only to save time: the same trials give the same results whatever was seen before.

    Args:
        maximize: whether larger values of the metric are better.
    """

    def __init__(self, maximize: bool) -> None:
        self._maximize = maximize
        self._clear()

    def of_first(
        self, count: int, trials: Sequence[Observation], earlier: Sequence[Observation] = ()
    ) -> list[Result] | None:
        """Return what the first `count` trials teach, by number, as losses; None if one has not ended.

        Args:
            count: the number of trials to learn from.
            trials: at least as many, by number.
            earlier: results of an earlier sweep, which count as older than all trials.
        """
        told = [*earlier, *trials[:count]]
        if len(self._seen) > len(told) or not all(map(is_, self._seen, told)):
            self._clear()
        for trial in told[len(self._seen) :]:
            if not trial.state.final:
                return None
            self._see(trial)
        best = [result for _, _, result in self._best]
        numbers = {trial.number for trial, _ in best}
        others = [result for result in self._newest if result[0].number not in numbers]
        return sorted([*best, *others[BEST - MOST :]], key=lambda result: result[0].number)

    def _see(self, trial: Observation) -> None:
        self._seen.append(trial)
        loss = trial.outcome(self._maximize)
        if loss is not None:
            self._newest.append((trial, loss))
            insort(self._best, (loss, trial.number, (trial, loss)), key=lambda entry: entry[:2])
            del self._best[BEST:]

    def _clear(self) -> None:
        self._seen: list[Observation] = []
        self._best: list[tuple[float, int, Result]] = []
        self._newest: deque[Result] = deque(maxlen=MOST)

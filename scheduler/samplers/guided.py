"""Draws guided by the results so far: Optuna's TPE or Gaussian process, rebuilt for each trial.

Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011); Snoek et al., Practical Bayesian
Optimization of Machine Learning Algorithms (2012). Trial n depends on exactly these: the seed, the results of
trials 0 to n - parallel (or those that the stopping rule names), and the values of those in between, whatever
their state. So the suggestions do not depend on which worker was faster, and are the same in any process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from kerasweep.jobs.seeds import suggestion_rng
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion
from kerasweep.scheduler.samplers.qmc import Sobol, spread_point
from kerasweep.scheduler.samplers.random import Draws
from kerasweep.scheduler.samplers.teaching import Result, Teaching

if TYPE_CHECKING:
    from kerasweep.scheduler.samplers.optuna_study import TemporaryStudies

#: How often Optuna is asked again for new values in a finite space.
_ASKS = 16
_TITLES = {"tpe": "TPE", "gp": "a Gaussian process"}


class GuidedSampler:
    """First trials from a plan, then trials proposed by a model of the results.

    Args:
        space: the space.
        seed: the sweep's.
        maximize: whether larger values of the metric are better.
        model: tpe or gp.
        startup_trials: the number of unguided first trials.
        parallel: how many trials may be undecided at once.
        sobol: whether the first trials come from a Sobol sequence, or are the draws of method `random`.
        threads: the number of threads that the model may use.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        maximize: bool,
        model: Literal["tpe", "gp"],
        startup_trials: int,
        parallel: int,
        *,
        sobol: bool = False,
        threads: int = 1,
    ) -> None:
        self._space, self._seed, self._model = space, seed, model
        self._startup_trials, self._parallel = startup_trials, parallel
        self._sobol, self._threads = sobol, threads
        self._teaching = Teaching(maximize)

    def suggest(
        self,
        trials: Sequence[Observation],
        wanted: int,
        learned: int | None = None,
        earlier: Sequence[Observation] = (),
    ) -> list[Suggestion]:
        draws = Draws(self._space, self._seed, trials)
        startup = max(0, self._startup_trials - sum(one.known for one in earlier))
        points = self._points(len(trials), learned, startup)
        suggestions: list[Suggestion] = []
        for number in range(len(trials), len(trials) + wanted):
            if _is_unguided(number, learned, startup):
                suggestion = self._start(number, draws, points)
            else:
                suggestion = self._guided(number, trials, suggestions, draws, learned, earlier)
            if suggestion is None:
                break
            draws.note(suggestion.params)
            suggestions.append(suggestion)
        return suggestions

    def _points(self, start: int, learned: int | None, startup: int) -> Iterator[Params] | None:
        if not self._sobol or not _is_unguided(start, learned, startup):
            return None
        return Sobol(self._space, self._seed).points(start)

    def _start(self, number: int, draws: Draws, points: Iterator[Params] | None) -> Suggestion | None:
        if points is not None:
            return spread_point(number, next(points), draws)
        return _drawn(draws, number, f"random start {number + 1} of {self._startup_trials}")

    def _guided(
        self,
        number: int,
        trials: Sequence[Observation],
        suggestions: Sequence[Suggestion],
        draws: Draws,
        learned: int | None,
        earlier: Sequence[Observation],
    ) -> Suggestion | None:
        count = max(0, number - self._parallel + 1) if learned is None else learned
        results = self._teaching.of_first(count, trials, earlier) if count <= len(trials) else None
        if results is None:
            return None
        known = [one.params for one in trials[count:number]] + [one.params for one in suggestions]
        undecided = known[: number - count]
        before = f" and {len(earlier)} of an earlier sweep" if earlier else ""
        reason = (
            f"{_TITLES[self._model]} on the results of {count} trials{before}, "
            f"with {len(undecided)} undecided"
        )
        params = self._ask(number, results, undecided, draws)
        if params is not None:
            return Suggestion(params, reason)
        instead = f"drawn at random: {self._model} gave nothing new on the results of {count} trials"
        return _drawn(draws, number, instead)

    def _ask(
        self, number: int, results: Sequence[Result], undecided: Sequence[Params], draws: Draws
    ) -> Params | None:
        """Return new values from the model; None if it gives only known ones."""
        seed = int(suggestion_rng(self._seed, number).integers(1 << 31))
        study = self._studies.study(results, undecided, seed)
        for _ in range(_ASKS):
            params = self._studies.ask(study)
            if draws.is_new(params):
                return params
        return None

    @cached_property
    def _studies(self) -> TemporaryStudies:
        from kerasweep.scheduler.samplers.optuna_study import TemporaryStudies

        return TemporaryStudies(self._space, self._model, self._threads)


def _is_unguided(number: int, learned: int | None, startup: int) -> bool:
    return number < startup or (learned == 0 and startup > 0)


def _drawn(draws: Draws, number: int, reason: str) -> Suggestion | None:
    params = draws.draw(number)
    return None if params is None else Suggestion(params, reason)

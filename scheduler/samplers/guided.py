"""Draws guided by the results so far: Optuna's TPE or Gaussian process, rebuilt for each trial.

Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011); Snoek et al., Practical Bayesian
Optimization of Machine Learning Algorithms (2012). Trial n depends on exactly these: the seed, the results of
trials 0 to n - parallel (or those that the stopping rule names), and the values of those in between, whatever
their state. So the suggestions do not depend on which worker was faster, and are the same in any process.
"""

from __future__ import annotations

import heapq
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.seeds import suggestion_rng
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion
from kerasweep.scheduler.samplers.qmc import Sobol, spread_point
from kerasweep.scheduler.samplers.random import Draws
from kerasweep.scheduler.samplers.translate import Form

if TYPE_CHECKING:
    import optuna

Result = tuple[Observation, float]

#: How often Optuna is asked again for new values in a finite space.
_ASKS = 16
#: The maximum number of results to learn from, including the best, so that a draw costs the same after 10,000
#: trials.
_RESULTS, _BEST = 200, 25
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
        self._space, self._seed, self._maximize, self._model = space, seed, maximize, model
        self._startup_trials, self._parallel = startup_trials, parallel
        self._sobol, self._threads = sobol, threads

    def suggest(
        self, trials: Sequence[Observation], wanted: int, learned: int | None = None
    ) -> list[Suggestion]:
        draws = Draws(self._space, self._seed, trials)
        points = Sobol(self._space, self._seed).points(len(trials)) if self._sobol else None
        known = [trial.params for trial in trials]
        suggestions: list[Suggestion] = []
        for number in range(len(trials), len(trials) + wanted):
            suggestion = self._suggest(number, trials, known, draws, points, learned)
            if suggestion is None:
                break
            draws.note(suggestion.params)
            known.append(suggestion.params)
            suggestions.append(suggestion)
        return suggestions

    def _suggest(
        self,
        number: int,
        trials: Sequence[Observation],
        known: list[Params],
        draws: Draws,
        points: Iterator[Params] | None,
        learned: int | None,
    ) -> Suggestion | None:
        point = next(points) if points is not None else None
        results = max(0, number - self._parallel + 1) if learned is None else learned
        if number < self._startup_trials or (learned == 0 and self._startup_trials):
            if point is not None:
                return spread_point(number, point, draws)
            return _drawn(draws, number, f"random start {number + 1} of {self._startup_trials}")
        if results > len(trials) or not all(trial.state.final for trial in trials[:results]):
            return None
        undecided = known[results:number]
        learning = self._learned(trials[:results])
        reason = f"{_TITLES[self._model]} on the results of {results} trials, with {len(undecided)} undecided"
        study = self._study(number, learning, undecided)
        for _ in range(_ASKS):
            params = self._ask(study)
            if draws.is_new(params):
                return Suggestion(params, reason)
        instead = f"drawn at random: {self._model} gave nothing new on the results of {results} trials"
        return _drawn(draws, number, instead)

    def _learned(self, trials: Sequence[Observation]) -> list[Result]:
        """Return the results to learn from: the best, and the newest of the others."""
        losses = [(trial, trial.outcome(self._maximize)) for trial in trials]
        results = [(trial, loss) for trial, loss in losses if loss is not None]
        if len(results) <= _RESULTS:
            return results
        best = heapq.nsmallest(_BEST, results, key=lambda result: (result[1], result[0].number))
        numbers = {trial.number for trial, _ in best}
        newest = [result for result in results[-_RESULTS:] if result[0].number not in numbers]
        return sorted([*best, *newest[_BEST - _RESULTS :]], key=lambda result: result[0].number)

    def _study(self, number: int, results: Sequence[Result], undecided: Sequence[Params]) -> optuna.Study:
        """Return a temporary study with exactly what the trial may depend on."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = int(suggestion_rng(self._seed, number).integers(1 << 31))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self._tpe(seed) if self._model == "tpe" else self._gp(seed)
        study = optuna.create_study(direction="minimize", sampler=sampler)
        finite = [loss for _, loss in results if math.isfinite(loss)]
        # A Gaussian process cannot handle infinity: diverged trials count as the worst finite value.
        worst = max(finite, default=0.0) if self._model == "gp" else math.inf
        study.add_trials(
            [self._frozen(trial.params, "COMPLETE", min(loss, worst)) for trial, loss in results]
        )
        study.add_trials([self._frozen(params, "RUNNING", None) for params in undecided])
        return study

    def _tpe(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        return optuna.samplers.TPESampler(
            n_startup_trials=0, multivariate=True, group=True, constant_liar=True, seed=seed
        )

    def _gp(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        expect_torch()
        import torch

        torch.set_num_threads(self._threads)
        return optuna.samplers.GPSampler(n_startup_trials=0, seed=seed)

    @cached_property
    def _forms(self) -> dict[str, Form]:
        return {name: Form(name, dimension) for name, dimension in self._space.dimensions.items()}

    def _frozen(self, params: Params, state: str, value: float | None) -> optuna.trial.FrozenTrial:
        import optuna

        forms = {name: self._forms[name] for name in params}
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            value=value,
            params={name: form.encode(params[name]) for name, form in forms.items()},
            distributions={name: form.distribution for name, form in forms.items()},
        )

    def _ask(self, study: optuna.Study) -> Params:
        asked = study.ask()
        return self._space.choose(lambda name, _: self._forms[name].choose(asked))


def expect_torch() -> None:
    """Check that the requirements of Optuna's Gaussian process are installed.

    Raises:
        InputError: they are not.
    """
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise InputError(
            "method 'gp' needs the package torch, which is not installed where the scheduler runs\n"
            "pip install 'kerasweep[gp]', or use method tpe"
        )


def _drawn(draws: Draws, number: int, reason: str) -> Suggestion | None:
    params = draws.draw(number)
    return None if params is None else Suggestion(params, reason)

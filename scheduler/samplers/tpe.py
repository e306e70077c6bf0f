"""Draws guided by the results so far: Optuna's TPE, asked anew for each trial.

Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011). Trial n is drawn from exactly these:
the seed, the results of trials 0 to n - parallel, and the values of those between, whatever has become of
them. So the suggestions do not depend on which worker was faster, and any process gives the same.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from kerasweep.jobs.seeds import suggestion_rng
from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.jobs.trial import COUNTED, FailureClass
from kerasweep.scheduler.samplers.protocol import Observation, Suggestion
from kerasweep.scheduler.samplers.random import Draws
from kerasweep.scheduler.samplers.translate import Form

if TYPE_CHECKING:
    import optuna

#: How often Optuna is asked again for values that are new, where the space is finite.
_ASKS = 16


class TpeSampler:
    """Tree-structured Parzen estimator.

    Args:
        space: what is searched.
        seed: the sweep's.
        goal: of the metric.
        startup_trials: how many are drawn at random first; the same draws as method `random` makes.
        parallel: how many trials may be undecided at once.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        goal: Literal["minimize", "maximize"],
        startup_trials: int,
        parallel: int,
    ) -> None:
        self._space, self._seed, self._goal = space, seed, goal
        self._startup_trials, self._parallel = startup_trials, parallel

    def suggest(self, trials: Sequence[Observation], wanted: int) -> list[Suggestion]:
        draws = Draws(self._space, self._seed, trials)
        known = [trial.params for trial in trials]
        suggestions: list[Suggestion] = []
        for number in range(len(trials), len(trials) + wanted):
            suggestion = self._suggest(number, trials, known, draws)
            if suggestion is None:
                break
            draws.note(suggestion.params)
            known.append(suggestion.params)
            suggestions.append(suggestion)
        return suggestions

    def _suggest(
        self, number: int, trials: Sequence[Observation], known: list[Params], draws: Draws
    ) -> Suggestion | None:
        if number < self._startup_trials:
            return _drawn(draws, number, f"random start {number + 1} of {self._startup_trials}")
        results = max(0, number - self._parallel + 1)
        if results > len(trials) or not all(trial.state.final for trial in trials[:results]):
            return None
        undecided = known[results:number]
        reason = f"TPE on the results of {results} trials, with {len(undecided)} undecided"
        study = self._study(number, trials[:results], undecided)
        for _ in range(_ASKS):
            params = self._ask(study)
            if draws.is_new(params):
                return Suggestion(params, reason)
        return _drawn(
            draws, number, f"drawn at random: TPE gave nothing new on the results of {results} trials"
        )

    def _study(
        self, number: int, results: Sequence[Observation], undecided: Sequence[Params]
    ) -> optuna.Study:
        """Return a throw-away study that holds just what the trial may depend on."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=0,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=int(suggestion_rng(self._seed, number).integers(1 << 31)),
            )
        study = optuna.create_study(direction=self._goal, sampler=sampler)
        study.add_trials([self._frozen(trial.params, *self._outcome(trial)) for trial in results])
        study.add_trials([self._frozen(params, "RUNNING", None) for params in undecided])
        return study

    def _outcome(self, trial: Observation) -> tuple[str, float | None]:
        """Return a final trial's state and value as Optuna should take them."""
        if trial.state in COUNTED and trial.value is not None and math.isfinite(trial.value):
            return "COMPLETE", trial.value
        if trial.failure is FailureClass.DIVERGED or trial.state in COUNTED:
            return "COMPLETE", math.inf if self._goal == "minimize" else -math.inf
        return "FAIL", None

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


def _drawn(draws: Draws, number: int, reason: str) -> Suggestion | None:
    params = draws.draw(number)
    return None if params is None else Suggestion(params, reason)

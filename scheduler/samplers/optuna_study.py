"""A temporary Optuna study with exactly what a suggestion may depend on. Only this module loads Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from kerasweep.jobs.sweepfile.space import Params, Space
from kerasweep.scheduler.samplers.normal_tail import quicken
from kerasweep.scheduler.samplers.protocol import Observation
from kerasweep.scheduler.samplers.requirements import missing
from kerasweep.scheduler.samplers.teaching import Result
from kerasweep.scheduler.samplers.translate import Form


class TemporaryStudies:
    """Makes a study for each suggestion.

    Args:
        space: the space.
        model: tpe or gp.
        threads: the number of threads that the model may use.
    """

    def __init__(self, space: Space, model: str, threads: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        quicken()
        self._space, self._model, self._threads = space, model, threads
        self._translated: dict[int, tuple[Observation, float, FrozenTrial]] = {}

    def study(self, results: Sequence[Result], undecided: Sequence[Params], seed: int) -> optuna.Study:
        """Return a study of these results, with other points under way."""
        storage = InMemoryStorage()
        study = optuna.create_study(storage=storage, direction="minimize", sampler=self._sampler(seed))
        key = storage.get_study_id_from_name(study.study_name)
        finite = [loss for _, loss in results if math.isfinite(loss)]
        # A Gaussian process cannot handle infinity: diverged trials count as the worst finite value.
        worst = max(finite, default=0.0) if self._model == "gp" else math.inf
        for trial, loss in results:
            storage.create_new_trial(key, self._ended(trial, min(loss, worst)))
        for params in undecided:
            storage.create_new_trial(key, self._frozen(params, TrialState.RUNNING, None))
        kept = {trial.number for trial, _ in results}
        self._translated = {number: one for number, one in self._translated.items() if number in kept}
        return study

    def ask(self, study: optuna.Study) -> Params:
        """Return the values that the model proposes."""
        asked = study.ask()
        return self._space.choose(lambda name, _: self._forms[name].choose(asked))

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self._model == "gp":
                limit_torch(self._threads)
                return optuna.samplers.GPSampler(n_startup_trials=0, seed=seed)
            return optuna.samplers.TPESampler(
                n_startup_trials=0, multivariate=True, group=True, constant_liar=True, seed=seed
            )

    @cached_property
    def _forms(self) -> dict[str, Form]:
        return {name: Form(name, dimension) for name, dimension in self._space.dimensions.items()}

    def _ended(self, trial: Observation, loss: float) -> FrozenTrial:
        found = self._translated.get(trial.number)
        if found is None or found[0] is not trial or found[1] != loss:
            found = trial, loss, self._frozen(trial.params, TrialState.COMPLETE, loss)
            self._translated[trial.number] = found
        return found[2]

    def _frozen(self, params: Params, state: TrialState, value: float | None) -> FrozenTrial:
        forms = {name: self._forms[name] for name in params}
        made = optuna.trial.create_trial(
            state=state,
            value=value,
            params={name: form.encode(params[name]) for name, form in forms.items()},
            distributions={name: form.distribution for name, form in forms.items()},
        )
        made.__class__ = _Unchanging
        return made


class _Unchanging(FrozenTrial):
    """A trial that no study changes: a storage's deep copy of it may share everything."""

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        made = FrozenTrial.__new__(FrozenTrial)  # four times as fast as copy.copy
        made.__dict__.update(self.__dict__)
        return made


def limit_torch(threads: int) -> None:
    """Limit the threads of Optuna's Gaussian process.

    Raises:
        InputError: its requirements are not installed.
    """
    try:
        import torch
    except ImportError as exc:
        raise missing("gp") from exc
    torch.set_num_threads(threads)

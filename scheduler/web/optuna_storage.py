"""Our records as a read-only Optuna storage, for optuna-dashboard."""

from __future__ import annotations

import math
from collections.abc import Container
from copy import deepcopy as copied
from datetime import datetime
from typing import Any, NoReturn

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.store.models import EpochRecord, TrialRecord
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show.study import Axes, counts
from kerasweep.scheduler.web.series import points_of, thin
from kerasweep.scheduler.web.shelf import Shelf

#: A study's id is the first 32 bits of the sweep's, a trial's the study's with 20 more bits for its number:
#: together they fit into the 53 bits of a browser's integers.
_STUDY_DIGITS, _NUMBER_BITS = 8, 20
_STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETED: OptunaState.COMPLETE,
    TrialState.STOPPED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
}


class SweepStorage(BaseStorage):
    """The sweeps as Optuna studies. Every method that would write raises.

    Args:
        shelf: reads the records, and caches what it read until they change.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return a study for each sweep, newest first."""
        return [self._study(sweep) for sweep in self._shelf.client.sweeps()]

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id; raise KeyError if there is none of that name."""
        for sweep in self._shelf.client.sweeps():
            if _name(sweep) == study_name:
                return study_id_of(sweep.id)
        raise KeyError(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name; raise KeyError if there is no such study."""
        return _name(self._sweep(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the single direction of a study."""
        return [_direction(self._sweep(study_id))]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return additional facts about a sweep."""
        return _attributes(self._sweep(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the names of the values: the sweep's metric."""
        return {"study:metric_names": [self._sweep(study_id).spec.metric.name]}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; raise KeyError if there is no such trial."""
        number = trial_id % (1 << _NUMBER_BITS)
        for trial in self.get_all_trials(trial_id >> _NUMBER_BITS, deepcopy=False):
            if trial.number == number:
                return trial
        raise KeyError(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study by number, only those in the given states if any."""
        sweep = self._sweep(study_id)
        trials = self._shelf.kept(sweep.id, "optuna", lambda: self._read(sweep))
        found = [one for one in trials if states is None or one.state in states]
        return copied(found) if deepcopy else found

    def _study(self, sweep: Sweep) -> FrozenStudy:
        attributes, metric = _attributes(sweep), [sweep.spec.metric.name]
        return FrozenStudy(
            _name(sweep), _direction(sweep), attributes, {"study:metric_names": metric}, study_id_of(sweep.id)
        )

    def _sweep(self, study_id: int) -> Sweep:
        try:
            return self._shelf.sweep(f"{study_id:0{_STUDY_DIGITS}x}")
        except NotFound:
            raise KeyError(study_id) from None

    def _read(self, sweep: Sweep) -> list[FrozenTrial]:
        """Read the trials; those that have not changed since they ended are not converted again."""
        axes, records = Axes(sweep.record), sweep.trial_records()
        made: dict[tuple[object, ...], FrozenTrial]
        made = self._shelf.kept(f"{sweep.id}/ended", "optuna", dict[tuple[object, ...], FrozenTrial])
        fresh = [one for one in records if _key(one) not in made]
        # One query for all if many are new; one query each if only a few have changed.
        only = [one.number for one in fresh] if len(fresh) * 20 < len(records) else [None]
        epochs: dict[int, list[EpochRecord]] = {}
        for number in only if fresh else ():
            epochs |= sweep.client.records.epochs(sweep.id, number)
        for one in fresh:
            made[_key(one)] = _frozen_of(sweep, one, axes, epochs.get(one.number, []))
        for gone in made.keys() - {_key(one) for one in records}:
            del made[gone]
        return [made[_key(one)] for one in records]

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise StorageInternalError("kerasweep's records cannot be changed through Optuna; use kerasweep")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def study_id_of(sweep: str) -> int:
    """Return the number that stands for a sweep in Optuna's URLs."""
    return int(sweep[:_STUDY_DIGITS], 16)


def _name(sweep: Sweep) -> str:
    return f"{sweep.name} ({sweep.id})"


def _direction(sweep: Sweep) -> StudyDirection:
    minimize = sweep.spec.metric.goal == "minimize"
    return StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE


def _attributes(sweep: Sweep) -> dict[str, Any]:
    return {"kerasweep:sweep": sweep.id, "kerasweep:state": str(sweep.record.state)}


def _key(trial: TrialRecord) -> tuple[object, ...]:
    return (trial.number, trial.state, trial.attempt, trial.epochs, trial.value)


def _frozen_of(sweep: Sweep, trial: TrialRecord, axes: Axes, epochs: list[EpochRecord]) -> FrozenTrial:
    """Convert a trial for Optuna; epochs that do not count are dropped, long curves are thinned."""
    state = _STATES.get(trial.state, OptunaState.WAITING)
    if state.is_finished() and not counts(trial):
        state = OptunaState.FAIL
    counted = [one for one in epochs if one.epoch <= trial.epochs]
    started = None if state is OptunaState.WAITING else trial.started_at or trial.created_at
    ended = (trial.finished_at or started) if state.is_finished() else None
    valued = state in (OptunaState.COMPLETE, OptunaState.PRUNED)
    return FrozenTrial(
        number=trial.number,
        state=state,
        value=trial.value if valued else None,
        datetime_start=_local(started),
        datetime_complete=_local(ended),
        params=axes.params(trial),
        distributions=axes.distributions(trial),
        user_attrs=_facts(trial),
        system_attrs={},
        intermediate_values=dict(thin(points_of(counted, sweep.spec.metric.name))),
        trial_id=(study_id_of(sweep.id) << _NUMBER_BITS) + trial.number,
    )


def _facts(trial: TrialRecord) -> dict[str, Any]:
    """Return what Optuna has no field for, as JSON values."""
    told: dict[str, Any] = {"state": str(trial.state), "attempts": trial.attempt, "seed": trial.seed}
    told |= {name: value for name, value in trial.metrics.items() if math.isfinite(value)}
    if trial.failure:
        told["failure"] = f"{trial.failure.cls}: {trial.failure.message}"
    return told


def _local(seconds: float | None) -> datetime | None:
    """Convert a time for Optuna: local, without a zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds)  # noqa: DTZ006

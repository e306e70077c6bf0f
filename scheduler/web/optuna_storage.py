"""Our records as a read-only Optuna storage for optuna-dashboard, and what it says of a study."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Sequence
from copy import deepcopy as copied
from datetime import datetime
from typing import Any, NoReturn

import optuna_dashboard
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.store.models import EpochRecord
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show.study import Axes, counts
from kerasweep.scheduler.web.roster import Rosters
from kerasweep.scheduler.web.series import points_of, thin
from kerasweep.scheduler.web.shelf import Shelf, uncollected

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
        rosters: reads the trials.
    """

    def __init__(self, shelf: Shelf, rosters: Rosters) -> None:
        self.shelf, self.rosters = shelf, rosters

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return a study for each sweep, newest first."""
        return [self._study(sweep) for sweep in self.shelf.client.sweeps()]

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id; raise KeyError if there is none of that name."""
        for sweep in self.shelf.client.sweeps():
            if _name(sweep) == study_name:
                return study_id_of(sweep.id)
        raise KeyError(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name; raise KeyError if there is no such study."""
        return _name(self.sweep(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the single direction of a study."""
        return [_direction(self.sweep(study_id))]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return additional facts about a sweep."""
        return _attributes(self.sweep(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the names of the values: the sweep's metric."""
        return {"study:metric_names": [self.sweep(study_id).spec.metric.name]}

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
        sweep = self.sweep(study_id)
        trials = self.shelf.kept(sweep.id, "optuna", lambda: self._read(sweep))
        found = [one for one in trials if states is None or one.state in states]
        return copied(found) if deepcopy else found

    def _study(self, sweep: Sweep) -> FrozenStudy:
        attributes, metric = _attributes(sweep), [sweep.spec.metric.name]
        return FrozenStudy(
            _name(sweep), _direction(sweep), attributes, {"study:metric_names": metric}, study_id_of(sweep.id)
        )

    def sweep(self, study_id: int) -> Sweep:
        """Return the sweep that a study stands for; raise KeyError if there is none."""
        try:
            return self.shelf.sweep(f"{study_id:0{_STUDY_DIGITS}x}")
        except NotFound:
            raise KeyError(study_id) from None

    def _read(self, sweep: Sweep) -> list[FrozenTrial]:
        """Return the trials; those that have not changed are not converted again."""
        trials = self.rosters.of(sweep).trials
        made: dict[int, tuple[Trial, FrozenTrial]]
        made = self.shelf.kept(f"{sweep.id}/ended", "optuna", dict[int, tuple[Trial, FrozenTrial]])
        fresh = [one for one in trials if made.get(one.number, (None,))[0] is not one]
        with uncollected():
            axes, epochs = Axes(sweep.record), _epochs(sweep, fresh, len(trials))
            for one in fresh:
                made[one.number] = one, _frozen_of(sweep, one, axes, epochs.get(one.number, []))
        return [made[one.number][1] for one in trials]

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise StorageInternalError("kerasweep's records cannot be changed through Optuna; use kerasweep")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


class Details:
    """Answers `/api/studies/ID`. The dashboard alone would convert every trial again for every answer, which
    is most of its work; here a trial is kept as it was converted until it changes.

    Args:
        storage: reads the trials.
        ask: returns the dashboard's answer to a GET: the application, the path, the query.
    """

    def __init__(self, storage: SweepStorage, ask: Callable[[Any, str, str], bytes]) -> None:
        self._storage, self._ask = storage, ask

    def of(self, sweep: str, after: int = 0) -> bytes:
        """Return the document of a sweep with its trials from number `after` on, as JSON."""
        texts, rest = self._storage.shelf.kept(sweep, "optuna document", lambda: self._read(sweep))
        return b'{"trials": [%s], %s' % (b", ".join(texts[after:]), rest[1:])

    def _read(self, sweep: str) -> tuple[list[bytes], bytes]:
        """Return each trial, and what is said beside them."""
        study = study_id_of(sweep)
        trials = self._storage.get_all_trials(study, deepcopy=False)
        known = self._storage.shelf.kept(
            f"{sweep}/ended", "optuna texts", dict[int, tuple[FrozenTrial, bytes]]
        )
        changed = [one for one in trials if known.get(one.number, (None,))[0] is not one]
        found = self._asked(study, changed)
        for one, told in zip(changed, found.pop("trials"), strict=True):
            known[one.number] = one, json.dumps(told).encode()
        if len(changed) < len(trials):
            found = self._asked(study, trials, len(trials))
            del found["trials"]
        return [known[one.number][1] for one in trials], json.dumps(found).encode()

    def _asked(self, study: int, trials: Sequence[FrozenTrial], after: int = 0) -> dict[str, Any]:
        """Return what a dashboard says that knows these trials alone; one of its own keeps no older ones."""
        app = optuna_dashboard.wsgi(_Part(self._storage, trials))
        with uncollected():
            found: dict[str, Any] = json.loads(self._ask(app, f"/api/studies/{study}", f"after={after}"))
        return found


class _Part(SweepStorage):
    """Some trials of a study as they were read, as if there were no others."""

    def __init__(self, whole: SweepStorage, trials: Sequence[FrozenTrial]) -> None:
        super().__init__(whole.shelf, whole.rosters)
        self._trials = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None
    ) -> list[FrozenTrial]:
        """Return these trials, only those in the given states if any."""
        found = [one for one in self._trials if states is None or one.state in states]
        return copied(found) if deepcopy else found


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


def _epochs(sweep: Sweep, trials: Sequence[Trial], of: int) -> dict[int, list[EpochRecord]]:
    """Return the epochs of trials: by one query each if they are few of all, else by one for the sweep."""
    records = sweep.client.records
    if len(trials) * 20 >= of:
        return records.epochs(sweep.id) if trials else {}
    return {one.number: records.epochs(sweep.id, one.number).get(one.number, []) for one in trials}


def _frozen_of(sweep: Sweep, trial: Trial, axes: Axes, epochs: list[EpochRecord]) -> FrozenTrial:
    """Convert a trial for Optuna; epochs that do not count are dropped, long curves are thinned."""
    state = _STATES.get(trial.state, OptunaState.WAITING)
    if state.is_finished() and not counts(trial):
        state = OptunaState.FAIL
    counted = [one for one in epochs if one.epoch <= trial.epochs]
    started = None if state is OptunaState.WAITING else trial.started_at or trial.finished_at
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


def _facts(trial: Trial) -> dict[str, Any]:
    """Return what Optuna has no field for, as JSON values."""
    told: dict[str, Any] = {"state": str(trial.state), "attempts": trial.attempts, "seed": trial.seed}
    told |= {name: value for name, value in trial.metrics.items() if math.isfinite(value)}
    if trial.failure:
        told["failure"] = f"{trial.failure.cls}: {trial.failure.message}"
    return told


def _local(at: datetime | None) -> datetime | None:
    """Convert a time for Optuna: local, without a zone."""
    return None if at is None else at.astimezone().replace(tzinfo=None)

"""Artifacts that nothing needs any more go: old checkpoints, models behind the best, what no record names.

Safe beside running attempts, without any waiting: a checkpoint or a model carries its attempt's number in its
key, and an attempt that is over can put nothing on record any more. So what such an attempt wrote and no
record names is nobody's, however young it is.
"""

from __future__ import annotations

import logging
import re

from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import COUNTED, TrialState

log = logging.getLogger(__name__)

#: The checkpoints of an unfinished trial that are kept: one in force, and one in case it is damaged.
_KEPT_CHECKPOINTS = 2
_OF_ATTEMPT = re.compile(r"sweeps/[^/]+/trials/(\d+)/(\d+)/[^/]+")


class Pruner:
    """Deletes what is not needed, round by round.

    Args:
        records: they say what is needed.
        artifacts: where it lies.
        grace_s: how long a half-written file must have lain untouched before it goes.
    """

    def __init__(self, records: Records, artifacts: Artifacts, grace_s: float) -> None:
        self._records, self._artifacts, self._grace_s = records, artifacts, grace_s
        self._settled: set[str] = set()

    def round(self) -> int:
        """Do one round; return how many artifacts went.

        A sweep that had ended before the round is looked at no more, unless it goes on.

        Raises:
            OutOfReach: the store or the artifacts do not answer; the next round goes on from there.
        """
        removed = 0
        for sweep in self._records.sweeps():
            if not sweep.state.final:
                self._settled.discard(sweep.id)
            elif sweep.id in self._settled:
                continue
            running = self._records.counts(sweep.id).get(TrialState.RUNNING)  # before what it may yet write
            removed += self._drop_unneeded(sweep) + self._drop_orphans(sweep)
            if sweep.state.final and not running:
                self._settled.add(sweep.id)
        return removed + self._artifacts.sweep_temporary(self._grace_s)

    def _drop_unneeded(self, sweep: SweepRecord) -> int:
        keys = unneeded(self._records, sweep)
        if keys:
            self._records.forget_artifacts(keys)  # first: a record must never point to nothing
            for key in keys:
                self._artifacts.delete(key)
        return len(keys)

    def _drop_orphans(self, sweep: SweepRecord) -> int:
        keys = orphans(self._records, self._artifacts, sweep.id)
        for key in keys:
            log.warning("%s is on no record, and nobody can put it there any more: it goes", key)
            self._artifacts.delete(key)
        return len(keys)


def unneeded(records: Records, sweep: SweepRecord) -> list[str]:
    """Return the artifacts on record that nothing needs.

    Kept are the newest checkpoints of every trial that may go on, and the models of the best `keep_top`.
    """
    states = {trial.number: trial.state for trial in records.trials(sweep.id)}
    keys: list[str] = []
    for trial, refs in records.artifacts(sweep.id, kind="checkpoint").items():
        kept = 0 if states.get(trial) in COUNTED else _KEPT_CHECKPOINTS
        keys += [ref.key for ref in refs[kept:]]
    best = {trial.number for trial in records.best(sweep, sweep.spec.checkpoints.keep_top)}
    for trial, refs in records.artifacts(sweep.id, kind="model").items():
        if states.get(trial) in COUNTED and trial not in best:
            keys += [ref.key for ref in refs]
    return keys


def orphans(records: Records, artifacts: Artifacts, sweep: str) -> list[str]:
    """Return the keys of a sweep that no record names, and that none can name any more."""
    keys = artifacts.keys(f"sweeps/{sweep}")  # before the records: what is written meanwhile is not here
    if not keys:
        return []
    trials = {trial.number: trial for trial in records.trials(sweep)}
    known = records.referenced()  # after the trials: an attempt that was over then has written its last
    return [key for key in keys if key not in known and _is_over(key, trials)]


def _is_over(key: str, trials: dict[int, TrialRecord]) -> bool:
    found = _OF_ATTEMPT.fullmatch(key)
    trial = trials.get(int(found[1])) if found else None
    if found is None or trial is None:
        return False
    return trial.state is not TrialState.RUNNING or trial.attempt != int(found[2])

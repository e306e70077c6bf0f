"""Deletes artifacts that nothing needs any more: old checkpoints, models behind the best, orphans.

It is safe beside running attempts: a checkpoint or model has its attempt's number in its key, and an attempt
that is over can record nothing any more. So what it wrote without a record is an orphan. Everything waits for
a grace period first, and nothing is deleted unless it is certain that this store made it.
"""

from __future__ import annotations

import logging
import re

from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.identity import Ownership
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import COUNTED, TrialState
from kerasweep.jobs.variants import variants_of

log = logging.getLogger(__name__)

#: How many checkpoints of an unfinished trial are kept: the current one, and a spare in case it is damaged.
_KEPT_CHECKPOINTS = 2
#: Another checkpoint follows soon, so old ones wait no longer than this.
_CHECKPOINT_GRACE_S = 60.0
_OF_ATTEMPT = re.compile(r"sweeps/[^/]+/trials/(\d+)/(\d+)/[^/]+")


class Pruner:
    """Deletes unneeded artifacts, round by round.

    Args:
        records: they define what is needed.
        artifacts: where it is stored.
        ownership: decides whether this store may delete there.
        leftover_s: how long an unfinished file must be untouched before it is deleted.
        grace_s: how long an unneeded artifact waits before it is deleted.
    """

    def __init__(
        self,
        records: Records,
        artifacts: Artifacts,
        ownership: Ownership,
        *,
        leftover_s: float,
        grace_s: float,
    ) -> None:
        self._records, self._artifacts, self._ownership = records, artifacts, ownership
        self._leftover_s, self._grace_s = leftover_s, grace_s
        self._settled: set[str] = set()
        self._doubt: str | None = None

    def round(self) -> int:
        """Do one round; return the number of artifacts deleted.

        A sweep that had ended before the round, with nothing left to delete, is not checked again unless it
        continues.

        Raises:
            OutOfReach: the store or the artifacts do not respond; the next round resumes there.
        """
        due = self._due()
        removed = sum(self._prune(sweep) for sweep in due) if due and self._may_delete() else 0
        return removed + (0 if self._doubt else self._artifacts.sweep_temporary(self._leftover_s))

    def _due(self) -> list[SweepRecord]:
        sweeps = self._records.sweeps()
        self._settled -= {sweep.id for sweep in sweeps if not sweep.state.final}
        return [sweep for sweep in sweeps if sweep.id not in self._settled]

    def _may_delete(self) -> bool:
        doubt = self._ownership.renew()
        if doubt is not None and doubt != self._doubt:
            log.warning("nothing is deleted: %s", doubt)
        self._doubt = doubt
        return doubt is None

    def _prune(self, sweep: SweepRecord) -> int:
        running = self._records.counts(sweep.id).get(TrialState.RUNNING)  # read before what it may yet write
        dropped, waiting = self._drop_unneeded(sweep)
        orphaned, young = self._drop_orphans(sweep)
        if sweep.state.final and not running and not waiting and not young:
            self._artifacts.drop_empty_folders(f"sweeps/{sweep.id}")
            self._settled.add(sweep.id)
        return dropped + orphaned

    def _drop_unneeded(self, sweep: SweepRecord) -> tuple[int, int]:
        """Delete what nothing needs; return how many artifacts were deleted and how many wait."""
        grace_s = {"checkpoint": min(self._grace_s, _CHECKPOINT_GRACE_S), "model": self._grace_s}
        keys = unneeded(self._records, sweep)
        over = self._records.set_aside(sweep.id, keys, grace_s)
        if over:
            self._records.forget_artifacts(over)  # records first: they must never point to nothing
            for key in over:
                self._artifacts.delete(key)
        return len(over), len(keys) - len(over)

    def _drop_orphans(self, sweep: SweepRecord) -> tuple[int, int]:
        keys = orphans(self._records, self._artifacts, sweep.id)
        over = [key for key in keys if self._artifacts.age_s(key) >= self._grace_s]
        for key in over:
            log.warning("%s is not on record and can no longer be recorded; it is deleted", key)
            self._artifacts.delete(key)
        return len(over), len(keys) - len(over)


def unneeded(records: Records, sweep: SweepRecord) -> list[str]:
    """Return the recorded artifacts that nothing needs.

    The newest checkpoints of every trial that may continue are kept, and the models of the best `keep_top`.
    """
    trials = records.trials(sweep.id)
    states = {trial.number: trial.state for trial in trials}
    keys: list[str] = []
    for trial, refs in records.artifacts(sweep.id, kind="checkpoint").items():
        kept = 0 if states.get(trial) in COUNTED else _KEPT_CHECKPOINTS
        if states.get(trial) is TrialState.WAITING:
            kept = 1
        keys += [ref.key for ref in refs[kept:]]
    best = {trial.number for trial in records.best(sweep, sweep.spec.checkpoints.kept)}
    if sweep.spec.times > 1:  # a variant has no rank before all of its trials have ended
        best |= {
            one for made in variants_of(sweep.spec, trials) if not made.state.final for one in made.trials
        }
    for trial, refs in records.artifacts(sweep.id, kind="model").items():
        if states.get(trial) in COUNTED and trial not in best:
            keys += [ref.key for ref in refs]
    return keys


def orphans(records: Records, artifacts: Artifacts, sweep: str) -> list[str]:
    """Return the keys of a sweep that are not recorded, and can no longer be."""
    # listed before the records are read: what is written meanwhile is not in the list
    keys = artifacts.keys(f"sweeps/{sweep}")
    if not keys:
        return []
    trials = {trial.number: trial for trial in records.trials(sweep)}
    known = records.referenced()  # read after the trials: an attempt that was over then has finished writing
    return [key for key in keys if key not in known and _is_over(key, trials)]


def _is_over(key: str, trials: dict[int, TrialRecord]) -> bool:
    found = _OF_ATTEMPT.fullmatch(key)
    trial = trials.get(int(found[1])) if found else None
    if found is None or trial is None:
        return False
    return trial.state is not TrialState.RUNNING or trial.attempt != int(found[2])

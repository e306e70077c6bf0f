"""Sets aside a worker on which every trial fails, and lets the others retry what failed there.

A failure is blamed on the worker if nobody else has seen it: others train the sweep's trials, or have not
been asked. If another worker sees the same trials fail, the job is to blame, and the first worker is
released. The last remaining worker is never set aside, so a sweep never waits for a missing worker.
"""

from __future__ import annotations

import logging
from typing import Any

from kerasweep.jobs.store.faults.fleet import FAILED_HERE, End, Fleet
from kerasweep.jobs.store.faults.quarantines import Quarantine
from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.trial import COUNTED, TrialState

log = logging.getLogger(__name__)

#: This many failed attempts in a row make a worker suspect; this many confirmed by others clear it.
IN_A_ROW = 3
#: A worker that is set aside may try one trial after this time, and then after twice as long each time.
PROBE_S = 300.0

_USER = FAILED_HERE[0]
_CLEAN_SLATE: dict[str, Any] = {
    "failures": 0,
    "failure_class": None,
    "failure_message": None,
    "pack_limit": None,
}


def judge_workers(decision: Decision) -> None:
    """Set suspect workers aside, requeue what failed on them alone, and release cleared ones.

    When every trial has ended, a single failure is enough for suspicion if nothing else ended there.
    """
    fleet = decision.fleet
    alive, aside = fleet.alive(), fleet.quarantines()
    if len(alive) < 2 and not aside:
        return
    for one in aside.values():
        if one.sweep == decision.sweep.id and (cleared := _why_cleared(fleet, one)):
            _take_back(decision, one.worker, cleared)
            del aside[one.worker]
            return
    able, wanted = alive - set(aside), 1 if all(state.final for state in decision.counts()) else IN_A_ROW
    for worker in sorted(able):
        if len(able) > 1 and (reason := _suspicion(fleet, worker, wanted)):
            log.warning("worker %s is set aside: %s", worker, reason)
            fleet.set_aside(worker, PROBE_S, reason)
            decision.note("worker set aside", f"{worker}: {reason}")
            able.discard(worker)
            aside[worker] = fleet.quarantines()[worker]
    if not able and (left := sorted(alive & set(aside))):
        _take_back(decision, left[0], "no other worker is alive")
        return
    for one in aside.values():
        _queue_again(decision, one, able)


def only_one_says(decision: Decision, trials: list[int]) -> bool:
    """Tell whether only one worker has seen these trials fail, and another can be asked."""
    fleet = decision.fleet
    witnesses = {end.worker for end in fleet.ends_of(trials) if end.outcome.startswith("failed")}
    able = fleet.alive() - set(fleet.quarantines())
    return len(witnesses) == 1 and bool(able - witnesses)


def _suspicion(fleet: Fleet, worker: str, wanted: int) -> str | None:
    """Return why a worker is suspect; None if it is not."""
    newest = fleet.newest_ends(worker, IN_A_ROW)
    if len(newest) < wanted or any(end.outcome not in FAILED_HERE for end in newest):
        return None
    if _seen_elsewhere(fleet, {end.trial for end in newest}, worker):
        return None
    trained = fleet.others_trained(worker)
    if not trained and fleet.others_failed(worker):
        return None  # they all see it fail: the job is to blame
    others = "while others train this sweep's trials" if trained else "and others have not been asked yet"
    return f"its last trials of this sweep ({_listed({end.trial for end in newest})}) all failed, {others}"


def _seen_elsewhere(fleet: Fleet, trials: set[int], worker: str) -> set[int]:
    """Return the trials that failed by the job's fault on another worker too."""
    return {end.trial for end in fleet.ends_of(trials) if end.worker != worker and end.outcome == _USER}


def _why_cleared(fleet: Fleet, one: Quarantine) -> str | None:
    """Return why a worker that is set aside was not at fault; None if unknown."""
    ends = fleet.ends_of(_doubted(fleet, one))
    confirmed = {end.trial for end in ends if end.worker != one.worker and end.outcome == _USER}
    refuted = {end.trial for end in ends if end.outcome in map(str, COUNTED)}
    doubted = {end.trial for end in ends if end.worker == one.worker}
    if refuted or not doubted or len(confirmed) < min(IN_A_ROW, len(doubted)):
        return None
    return f"trials {_listed(confirmed)} failed on other workers too"


def _doubted(fleet: Fleet, one: Quarantine) -> set[int]:
    newest: list[End] = fleet.newest_ends(one.worker, IN_A_ROW)
    return {end.trial for end in newest if end.outcome == _USER}


def _queue_again(decision: Decision, one: Quarantine, able: set[str]) -> None:
    """Requeue what failed only on a worker that is set aside, for the remaining ones."""
    if not able - {one.worker}:
        return
    failed = set(decision.fleet.failed_trials(one.worker))
    if not failed:
        return
    ends = decision.fleet.ends_of(failed)
    own = one.sweep == decision.sweep.id
    late = {end.trial for end in ends if end.worker == one.worker and (own or end.started_at >= one.since)}
    seen = _seen_elsewhere(decision.fleet, failed, one.worker)
    for number in sorted(failed & late - seen):
        reason = f"it failed on {one.worker} alone, which is set aside; another worker is asked"
        decision.move(TrialState.QUEUED, reason, number, among=(TrialState.FAILED,), **_CLEAN_SLATE)


def _take_back(decision: Decision, worker: str, why: str) -> None:
    log.info("worker %s is released: %s", worker, why)
    decision.fleet.take_back(worker)
    decision.note("worker released", f"{worker}: {why}")


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))

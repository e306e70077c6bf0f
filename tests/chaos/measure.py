"""Measures how soon training resumes after a kill, and the cost of checkpoints and leases, with the default
settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chaos.rounds import Tell, open_store, submit_to, write_job
from chaos.site import Kept, Site

from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.trial import TrialKey

#: How long an undisturbed trial is observed: for at least two checkpoints.
_WATCH_S = 75.0
_PATIENCE_S = 120.0
#: Below the lease of 30 s: dead processes are not waited for.
TARGETS = {"trainer killed": 15.0, "worker killed": 15.0}
TARGET_SHARE = 0.03


@dataclass(frozen=True)
class Costs:
    """The share of an undisturbed trial's time spent on checkpoints and leases.

    Args:
        gaps: the fraction of time between epochs, in the trainer.
        worker: the processor time of the worker's process, as a fraction of the time.
        checkpoints: the number written.
        bytes: the size of the largest.
        seconds: the observation time.
    """

    gaps: float
    worker: float
    checkpoints: int
    bytes: int
    seconds: float

    @property
    def share(self) -> float:
        """Both together: the worker's share is counted in full, though it has its own core."""
        return self.gaps + self.worker


def measure(folder: Path, tell: Tell) -> bool:
    """Measure and report; return whether every target was met."""
    file = write_job(folder / "long", long=True)
    store = open_store("sqlite", folder / "measured")
    site = Site(folder / "measured", store, Settings(), slots=1)
    try:
        sweep = submit_to(site, file)
        _wait(site, lambda: all(_epochs(site, sweep, trial) for trial in (0, 1)), "both trials' first epoch")
        costs = _watch(site, sweep)
        tell(
            f"undisturbed, {costs.seconds:.0f} s, {costs.checkpoints} checkpoints of {costs.bytes:,} bytes: "
            f"{costs.gaps:.2%} between epochs, {costs.worker:.2%} in the worker, "
            f"{costs.share:.2%} in all (target {TARGET_SHARE:.0%})"
        )
        good = costs.share < TARGET_SHARE
        for what, target_s in TARGETS.items():
            took_s = _kill(site, sweep, what)
            tell(f"{what}: trains again after {took_s:.1f} s (target {target_s:.0f} s)")
            good &= took_s < target_s
        return good
    finally:
        site.close()
        store.close()


def _watch(site: Site, sweep: SweepRecord) -> Costs:
    """Observe the first trial for a while."""
    worker = _worker_of(site, sweep, 0)
    assert worker.child
    first, cpu_before = _epochs(site, sweep, 0), sum(worker.child.cpu_times()[:2])
    began = time.monotonic()
    _wait(site, lambda: time.monotonic() - began > _WATCH_S, "the time", _WATCH_S + 10.0)
    cpu_s = sum(worker.child.cpu_times()[:2]) - cpu_before
    seconds = time.monotonic() - began
    with site.records._db.reading() as conn:
        query = "select at, seconds from epochs where sweep = ? and trial = 0 and epoch >= ? order by epoch"
        rows = conn.exec_driver_sql(query, (sweep.id, first)).all()
    span = rows[-1][0] - rows[0][0]
    training = sum(row[1] for row in rows[1:])
    refs = site.records.artifacts(sweep.id, 0, "checkpoint").get(0, [])
    every_s = sweep.spec.checkpoints.every_s
    size = max((ref.bytes for ref in refs), default=0)
    return Costs(max(0.0, 1.0 - training / span), cpu_s / seconds, int(seconds / every_s), size, seconds)


def _kill(site: Site, sweep: SweepRecord, what: str) -> float:
    """Kill a process; return the seconds until a new attempt of the affected trial has trained an epoch."""
    worker = _worker_of(site, sweep, 0)
    before = site.records.trial(TrialKey(sweep.id, 0)).attempt
    victim = worker.trainers[0] if what == "trainer killed" else worker.child
    assert victim
    began = time.monotonic()
    victim.kill()

    def again() -> bool:
        return any(epoch.attempt > before for epoch in site.records.epochs(sweep.id, 0).get(0, []))

    _wait(site, again, "training again")
    return time.monotonic() - began


def _worker_of(site: Site, sweep: SweepRecord, trial: int) -> Kept:
    name = str(site.records.trial(TrialKey(sweep.id, trial)).worker)
    return next(worker for worker in site.workers if worker.name == name.split("@")[0])


def _epochs(site: Site, sweep: SweepRecord, trial: int) -> int:
    return site.records.trial(TrialKey(sweep.id, trial)).epochs


def _wait(site: Site, condition: Callable[[], bool], what: str, within_s: float = _PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {within_s:.0f} s; see {site.folder}")
        site.tend()
        time.sleep(0.05)

"""The workers of one sweep under its lock: liveness, outcomes on each, quarantine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, select

from kerasweep.jobs.queue.hints import train_queue
from kerasweep.jobs.store.faults import quarantines
from kerasweep.jobs.store.faults.quarantines import Quarantine
from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.store.presence import ALIVE_S
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState

#: Ends of attempts that say something about the worker; attempts taken away from it do not count.
FAILED_HERE = (f"failed: {FailureClass.USER}", f"failed: {FailureClass.MACHINE}")
_TELLING = (*map(str, COUNTED), *FAILED_HERE)
# Built once, since every decision executes it.
_SEEN = select(t.workers.c.id, t.workers.c.facts).where(t.workers.c.seen_at >= bindparam("since"))


@dataclass(frozen=True)
class End:
    """How an attempt ended on a worker: the trial's state, or `failed: CLASS`."""

    trial: int
    worker: str
    outcome: str
    started_at: float


class Fleet:
    """What the records know about the workers that train a sweep.

    Args:
        conn: the connection that holds the sweep's lock.
        sweep: the sweep.
        now: the store's time.
    """

    def __init__(self, conn: Connection, sweep: SweepRecord, now: float) -> None:
        self._conn, self._sweep, self._now = conn, sweep, now
        self._of_sweep = t.attempts.c.sweep == sweep.id

    def alive(self) -> set[str]:
        """Return the live workers that take the sweep's trials."""
        wanted = train_queue(self._sweep.spec.resources.gpus)
        rows = self._conn.execute(_SEEN, {"since": self._now - ALIVE_S})
        return {row.id for row in rows if wanted in row.facts.get("queues", ())}

    def quarantines(self) -> dict[str, Quarantine]:
        """Return the quarantined workers, for whichever sweep, by name."""
        return {one.worker: one for one in quarantines.read_quarantines(self._conn)}

    def newest_ends(self, worker: str, count: int) -> list[End]:
        """Return how a worker's latest attempts at the sweep ended, newest first."""
        of_worker = and_(self._of_sweep, t.attempts.c.worker == worker, t.attempts.c.outcome.in_(_TELLING))
        newest = select(t.attempts).where(of_worker).order_by(t.attempts.c.ended_at.desc()).limit(count)
        return [End(row.trial, row.worker, row.outcome, row.started_at) for row in self._conn.execute(newest)]

    def ends_of(self, trials: Collection[int]) -> list[End]:
        """Return how all attempts at these trials ended, on any worker."""
        wanted = and_(
            self._of_sweep, t.attempts.c.trial.in_(sorted(trials)), t.attempts.c.outcome.in_(_TELLING)
        )
        rows = self._conn.execute(select(t.attempts).where(wanted))
        return [End(row.trial, row.worker, row.outcome, row.started_at) for row in rows]

    def failed_trials(self, worker: str) -> list[int]:
        """Return the trials recorded as failed by the job's fault on this worker."""
        query = select(t.trials.c.number).where(
            t.trials.c.sweep == self._sweep.id,
            t.trials.c.state == TrialState.FAILED,
            t.trials.c.failure_class == FailureClass.USER,
            t.trials.c.worker == worker,
        )
        return list(self._conn.execute(query).scalars())

    def others_trained(self, worker: str) -> bool:
        """Tell whether another worker has completed a trial of the sweep."""
        query = select(t.trials.c.number).where(
            t.trials.c.sweep == self._sweep.id,
            t.trials.c.state.in_(COUNTED),
            t.trials.c.worker != worker,
        )
        return self._conn.execute(query.limit(1)).first() is not None

    def others_failed(self, worker: str) -> bool:
        """Tell whether a trial of the sweep has failed by the job's fault on another worker."""
        query = select(t.attempts.c.trial).where(
            self._of_sweep, t.attempts.c.worker != worker, t.attempts.c.outcome == FAILED_HERE[0]
        )
        return self._conn.execute(query.limit(1)).first() is not None

    def set_aside(self, worker: str, probe_s: float, reason: str) -> None:
        """Keep a worker from claiming trials of any sweep until it is released or due for a probe."""
        probe_at = self._now + probe_s
        quarantines.set_aside(
            self._conn, Quarantine(worker, self._sweep.id, self._now, probe_at, 2.0 * probe_s, reason)
        )

    def take_back(self, worker: str) -> None:
        """Let a worker claim trials again."""
        quarantines.take_back(self._conn, worker)

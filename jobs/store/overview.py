"""Reads for pages and monitoring: whether anything has changed, and counts over all sweeps."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from kerasweep.jobs.queue.hints import train_queue
from kerasweep.jobs.store.models import AttemptRecord, JournalEntry, TrialRecord
from kerasweep.jobs.store.presence import ALIVE_S
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import ATTEMPT, attempt_of, journal_of, sweep_of, trial_of
from kerasweep.jobs.trial import TrialState

#: The keys of marks that belong to no sweep.
PROCESSES, PACE, LOGS = "processes", "pace", "logs"

_NEWEST = select(func.max(t.journal.c.id)).where(t.journal.c.sweep == t.sweeps.c.id).scalar_subquery()
_TRAINED = (
    select(func.sum(t.trials.c.epochs))
    .where(t.trials.c.sweep == t.sweeps.c.id, t.trials.c.state == TrialState.RUNNING)
    .scalar_subquery()
)
_WAITED = select(
    t.trials.c.sweep,
    func.count(t.trials.c.started_at),
    func.sum(t.trials.c.started_at - t.trials.c.created_at),
).group_by(t.trials.c.sweep)
_OLDEST = (
    select(t.trials.c.sweep, func.min(t.trials.c.created_at).label("made_at"))
    .where(t.trials.c.state == TrialState.QUEUED, t.trials.c.attempt == 0)
    .group_by(t.trials.c.sweep)
)
_MARKS = select(t.sweeps.c.id, t.sweeps.c.state, t.sweeps.c.max_trials, _NEWEST, _TRAINED)

#: Number, state, attempt and epochs: a trial's row changes with them.
TrialMark = tuple[int, str, int, int]
_TRIAL_MARKS = select(t.trials.c.number, t.trials.c.state, t.trials.c.attempt, t.trials.c.epochs)
#: The longest list of numbers in a statement; beyond it all rows are read.
_MOST_NUMBERS = 500
#: How many entries of the journal may have become visible after a newer one.
_OVERLAP = 300


@dataclass(frozen=True)
class SweepCount:
    """How many trials of a sweep are in a state.

    Args:
        sweep: the sweep's id.
        name: its name.
        queue: the Celery queue of its trials.
        state: the state.
        trials: the number of trials in it.
    """

    sweep: str
    name: str
    queue: str
    state: TrialState
    trials: int


@dataclass(frozen=True)
class OutcomeCount:
    """How many attempts ended with an outcome: a final state, or a failure class.

    Args:
        outcome: as recorded for attempts.
        attempts: the number of attempts.
    """

    outcome: str
    attempts: int


@dataclass(frozen=True)
class QueueWait:
    """How long the trials of a sweep wait for a worker.

    Args:
        queue: their Celery queue.
        started: the number of trials that have been tried.
        waited_s: the total wait of these for their first attempt, in seconds.
        oldest_s: the longest current wait, in seconds.
    """

    queue: str
    started: int
    waited_s: float
    oldest_s: float


class OverviewRecords:
    """Reads over all sweeps; nothing here changes a row."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def marks(self) -> dict[str, str]:
        """Return a mark for each sweep, the processes, their pace and the logs, which changes when they do.

        A sweep's mark follows its state, its journal, and the epochs of its running trials.
        """
        with self._db.reading() as conn:
            marks = {row[0]: "-".join(map(str, row[1:])) for row in conn.execute(_MARKS)}
            marks[LOGS] = str(conn.execute(select(func.max(t.logs.c.id))).scalar())
            alive = _alive(conn, self._db.now(conn))
            marks[PROCESSES] = str([*((row.id, _offer(row.facts)) for row in alive), *_set_aside(conn)])
            marks[PACE] = str(
                [(row.id, row.facts.get("packs"), row.facts.get("steps_per_s")) for row in alive]
            )
            return marks

    def counts_of_all(self) -> list[SweepCount]:
        """Return the number of trials in each state that occurs, for each sweep."""
        query = select(t.trials.c.sweep, t.trials.c.state, func.count()).group_by(
            t.trials.c.sweep, t.trials.c.state
        )
        with self._db.reading() as conn:
            sweeps = {row.id: sweep_of(row) for row in conn.execute(select(t.sweeps))}
            rows = conn.execute(query.order_by(t.trials.c.sweep, t.trials.c.state)).all()
        return [
            SweepCount(
                sweep,
                sweeps[sweep].name,
                train_queue(sweeps[sweep].spec.resources.gpus),
                TrialState(state),
                n,
            )
            for sweep, state, n in rows
            if sweep in sweeps
        ]

    def outcomes(self) -> list[OutcomeCount]:
        """Return the number of attempts that ended with each outcome."""
        query = (
            select(t.attempts.c.outcome, func.count())
            .where(t.attempts.c.outcome.is_not(None))
            .group_by(t.attempts.c.outcome)
            .order_by(t.attempts.c.outcome)
        )
        with self._db.reading() as conn:
            return [OutcomeCount(outcome, count) for outcome, count in conn.execute(query)]

    def queue_waits(self) -> list[QueueWait]:
        """Return how long trials have waited, and are waiting, for their first attempt, by sweep."""
        with self._db.reading() as conn:
            now = self._db.now(conn)
            gpus = {row.id: sweep_of(row).spec.resources.gpus for row in conn.execute(select(t.sweeps))}
            oldest = {row.sweep: row.made_at for row in conn.execute(_OLDEST)}
            rows = conn.execute(_WAITED).all()
        return [
            QueueWait(
                train_queue(gpus[sweep]),
                int(started),
                float(waited or 0.0),
                max(0.0, now - oldest[sweep]) if sweep in oldest else 0.0,
            )
            for sweep, started, waited in rows
            if sweep in gpus
        ]

    def epochs_recorded(self) -> int:
        """Return the number of recorded epochs of all trials."""
        with self._db.reading() as conn:
            return int(conn.execute(select(func.sum(t.trials.c.epochs))).scalar() or 0)

    def newest_journal(self, sweep: str, count: int, trial: int | None = None) -> list[JournalEntry]:
        """Return the latest journal entries of a sweep, or of one of its trials, newest first."""
        query = select(t.journal).where(t.journal.c.sweep == sweep)
        if trial is not None:
            query = query.where(t.journal.c.trial == trial)
        with self._db.reading() as conn:
            rows = conn.execute(query.order_by(t.journal.c.id.desc()).limit(count))
            return [journal_of(row) for row in rows]

    def changed_trials(
        self, sweep: str, known: Container[TrialMark], since: int | None = None
    ) -> tuple[list[TrialRecord], int]:
        """Return the trials whose marks are not known, by number, and the newest entry of the journal.

        Args:
            sweep: the sweep's id.
            known: the marks of the trials read before.
            since: the entry returned then; only running trials and those in the journal since are looked at.
        """
        mine = t.trials.c.sweep == sweep
        query = select(t.trials).where(mine).order_by(t.trials.c.number)
        looked_at = _TRIAL_MARKS.where(mine)
        if since is not None:
            # Ids become visible out of order: a few entries before are looked at again.
            told = select(t.journal.c.trial).where(
                t.journal.c.sweep == sweep, t.journal.c.id > since - _OVERLAP, t.journal.c.trial.is_not(None)
            )
            running = t.trials.c.state == TrialState.RUNNING
            looked_at = looked_at.where(or_(t.trials.c.number.in_(told), running))
        with self._db.reading() as conn:
            newest = select(func.max(t.journal.c.id)).where(t.journal.c.sweep == sweep)
            newest_id = int(conn.execute(newest).scalar() or 0)
            fresh = {mark[0] for mark in conn.execute(looked_at) if tuple(mark) not in known}
            if len(fresh) <= _MOST_NUMBERS:
                query = query.where(t.trials.c.number.in_(sorted(fresh)))
            found = map(trial_of, conn.execute(query)) if fresh else ()
            return [one for one in found if one.number in fresh], newest_id

    def attempts_at(self, sweep: str, trials: Collection[int]) -> list[AttemptRecord]:
        """Return the attempts at trials of these numbers, in the order in which they began."""
        query = select(*ATTEMPT).where(t.attempts.c.sweep == sweep).order_by(t.attempts.c.started_at)
        if len(trials) <= _MOST_NUMBERS:
            query = query.where(t.attempts.c.trial.in_(sorted(trials)))
        with self._db.reading() as conn:
            found = map(attempt_of, conn.execute(query)) if trials else ()
            return [one for one in found if one.trial in trials]

    def resumed_after(self, sweep: str, trials: Collection[int]) -> Mapping[tuple[int, int], int]:
        """Return the epoch after which each attempt began, by trial and attempt; without those before their
        first epoch.

        Args:
            sweep: the sweep's id.
            trials: the numbers of the trials.
        """
        epochs = t.epochs.c
        query = (
            select(epochs.trial, epochs.attempt, func.min(epochs.epoch))
            .where(epochs.sweep == sweep, epochs.trial.in_(sorted(trials)))
            .group_by(epochs.trial, epochs.attempt)
        )
        with self._db.reading() as conn:
            return {(trial, attempt): first - 1 for trial, attempt, first in conn.execute(query)}


def _alive(conn: Connection, now: float) -> list[Row[Any]]:
    """Return the live workers and schedulers."""
    found: list[Row[Any]] = []
    for table in (t.workers, t.schedulers):
        query = select(table.c.id, table.c.facts).where(table.c.seen_at >= now - ALIVE_S)
        found += conn.execute(query.order_by(table.c.id))
    return found


def _offer(facts: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the facts about a process that rarely change."""
    return facts.get("ready"), facts.get("slots")


def _set_aside(conn: Connection) -> list[tuple[object, ...]]:
    query = select(t.quarantine.c.worker, t.quarantine.c.since).order_by(t.quarantine.c.worker)
    return [tuple(row) for row in conn.execute(query)]

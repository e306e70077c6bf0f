"""The reading side of the records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.queue.hints import decode_metrics
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.decision import count_settled, count_states, no_such_trial, read_rungs
from kerasweep.jobs.store.models import (
    AttemptRecord,
    EarlierResult,
    EpochRecord,
    JournalEntry,
    LogLine,
    SweepRecord,
    TrialRecord,
)
from kerasweep.jobs.store.ranking import ranked
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.rows import (
    ATTEMPT,
    artifact_of,
    attempt_of,
    journal_of,
    read_earlier,
    read_sweep,
    sweep_of,
    trial_of,
)
from kerasweep.jobs.store.tail import LogTail, lines_of
from kerasweep.jobs.trial import COUNTED, SweepState, TrialKey, TrialState
from kerasweep.jobs.variants import ranked_variants

#: How many of the newest sweeps are searched for the nearest name, and listed.
_LOOKED_AT, _LISTED = 200, 8


class RecordReads:
    """Read-only access to the records."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def sweep(self, sweep: str) -> SweepRecord:
        """Return a sweep by its full id.

        Raises:
            NotFound: no such sweep.
        """
        with self._db.reading() as conn:
            return read_sweep(conn, sweep)

    def find_sweep(self, name: str) -> SweepRecord:
        """Return a sweep by id, by a unique prefix of its id, or by name (the newest).

        Raises:
            NotFound: none matches, or more than one does; the message lists the candidates.
        """
        with self._db.reading() as conn:
            newest_first = select(t.sweeps).order_by(t.sweeps.c.created_at.desc())
            for where in (t.sweeps.c.id == name, t.sweeps.c.name == name):
                row = conn.execute(newest_first.where(where).limit(1)).first()
                if row:
                    return sweep_of(row)
            rows = conn.execute(newest_first.where(t.sweeps.c.id.startswith(name, autoescape=True))).all()
            if len(rows) == 1 and name:
                return sweep_of(rows[0])
            raise _not_found(conn, name, ambiguous=bool(rows and name))

    def sweeps(self, states: Sequence[SweepState] | None = None) -> list[SweepRecord]:
        """Return the sweeps, newest first."""
        query = select(t.sweeps).order_by(t.sweeps.c.created_at.desc())
        with self._db.reading() as conn:
            return [sweep_of(row) for row in conn.execute(_among(query, t.sweeps.c.state, states))]

    def counts(self, sweep: str) -> dict[TrialState, int]:
        """Return the number of a sweep's trials in each state that occurs."""
        with self._db.reading() as conn:
            return count_states(conn, sweep)

    def seconds_waiting(self, sweep: str) -> float:
        """Estimate how long the waiting trials would take one after the other, from those that have ended.

        Trials still to be decided are included. Until a trial has ended the estimate is infinite.

        Raises:
            NotFound: no such sweep.
        """
        lasted = func.avg(t.trials.c.finished_at - t.trials.c.started_at)
        ended = and_(t.trials.c.sweep == sweep, t.trials.c.state.in_(COUNTED))
        with self._db.reading() as conn:
            planned, counts = read_sweep(conn, sweep).max_trials, count_states(conn, sweep)
            each_s = conn.execute(select(lasted).where(ended)).scalar()
        busy = sum(count for state, count in counts.items() if state is not TrialState.QUEUED)
        waiting = max(0, planned - busy)
        return waiting * (math.inf if each_s is None else float(each_s)) if waiting else 0.0

    def trials(
        self, sweep: str, states: Sequence[TrialState] | None = None, first: int = 0
    ) -> list[TrialRecord]:
        """Return the trials of a sweep from number `first` on, by number."""
        mine = (t.trials.c.sweep == sweep, t.trials.c.number >= first)
        query = select(t.trials).where(*mine).order_by(t.trials.c.number)
        with self._db.reading() as conn:
            return [trial_of(row) for row in conn.execute(_among(query, t.trials.c.state, states))]

    def trial(self, key: TrialKey) -> TrialRecord:
        """Return one trial.

        Raises:
            NotFound: the sweep has no such trial.
        """
        query = select(t.trials).where(t.trials.c.sweep == key.sweep, t.trials.c.number == key.trial)
        with self._db.reading() as conn:
            row = conn.execute(query).one_or_none()
            if row is None:
                raise no_such_trial(conn, key.sweep, key.trial)
            return trial_of(row)

    def settled(self, sweep: str) -> int:
        """Return the number of leading trials that have ended."""
        with self._db.reading() as conn:
            return count_settled(conn, sweep)

    def rung_values(self, sweep: str, first: int = 0) -> dict[int, dict[int, float]]:
        """Return the values at rungs of the trials from number `first` on, by number and epoch."""
        with self._db.reading() as conn:
            return read_rungs(conn, sweep, first)

    def earlier(self, sweep: str) -> list[EarlierResult]:
        """Return what a sweep learns from an earlier one, in order."""
        with self._db.reading() as conn:
            return read_earlier(conn, sweep)

    def best(self, sweep: SweepRecord, limit: int | None = 1) -> list[TrialRecord]:
        """Return the best trials that count, up to `limit`, best first; ties by lower number.

        In a sweep with repeats: the best trial of each of the best variants.
        """
        if sweep.spec.times > 1:
            trials = self.trials(sweep.id)
            found = ranked_variants(sweep.spec, trials)[:limit]
            return [trials[one.best] for one in found if one.best is not None]
        with self._db.reading() as conn:
            return [trial_of(row) for row in conn.execute(ranked(sweep).limit(limit))]

    def epochs(self, sweep: str, trial: int | None = None) -> dict[int, list[EpochRecord]]:
        """Return the epochs of a sweep's trials, or of one, by trial."""
        query = select(t.epochs).where(t.epochs.c.sweep == sweep).order_by(t.epochs.c.trial, t.epochs.c.epoch)
        if trial is not None:
            query = query.where(t.epochs.c.trial == trial)
        found: dict[int, list[EpochRecord]] = {}
        with self._db.reading() as conn:
            for row in conn.execute(query):
                epoch = EpochRecord(row.epoch, decode_metrics(row.metrics), row.seconds, row.attempt)
                found.setdefault(row.trial, []).append(epoch)
        return found

    def artifacts(
        self, sweep: str, trial: int | None = None, kind: str | None = None
    ) -> dict[int, list[ArtifactRef]]:
        """Return the artifacts of a sweep's trials by trial, newest epoch first."""
        query = select(t.artifacts).where(t.artifacts.c.sweep == sweep)
        if trial is not None:
            query = query.where(t.artifacts.c.trial == trial)
        if kind is not None:
            query = query.where(t.artifacts.c.kind == kind)
        query = query.order_by(t.artifacts.c.epoch.desc(), t.artifacts.c.created_at.desc(), t.artifacts.c.key)
        found: dict[int, list[ArtifactRef]] = {}
        with self._db.reading() as conn:
            for row in conn.execute(query):
                found.setdefault(row.trial, []).append(artifact_of(row))
        return found

    def attempts(self, sweep: str, trial: int | None = None) -> list[AttemptRecord]:
        """Return the attempts at a sweep's trials, or at one, by trial and number."""
        query = (
            select(*ATTEMPT)
            .where(t.attempts.c.sweep == sweep)
            .order_by(t.attempts.c.trial, t.attempts.c.number)
        )
        if trial is not None:
            query = query.where(t.attempts.c.trial == trial)
        with self._db.reading() as conn:
            return [attempt_of(row) for row in conn.execute(query)]

    def referenced(self) -> set[str]:
        """Return the keys of all recorded artifacts, including bundles."""
        with self._db.reading() as conn:
            known = set(conn.execute(select(t.artifacts.c.key)).scalars())
            rows = conn.execute(select(t.sweeps.c.bundle_key, t.sweeps.c.source)).all()
            earlier = {one["key"] for row in rows for one in row.source.get("bundles", [])}
            return known | earlier | {row.bundle_key for row in rows}

    def logs(self, sweep: str, trial: int | None = None) -> list[LogLine]:
        """Return the log lines of a sweep's trials, or of one."""
        with self._db.reading() as conn:
            return [LogLine._make(row) for row in conn.execute(lines_of(sweep, trial))]

    def log_tail(self, sweep: str, trial: int | None = None) -> LogTail:
        """Return a reader of log lines as they are written, each line once."""
        return LogTail(self._db, sweep, trial)

    def journal(self, sweep: str) -> list[JournalEntry]:
        """Return the sweep's journal, oldest entry first."""
        query = select(t.journal).where(t.journal.c.sweep == sweep).order_by(t.journal.c.id)
        with self._db.reading() as conn:
            return [journal_of(row) for row in conn.execute(query)]


def _among(query: Select[Any], column: ColumnElement[Any], states: Sequence[str] | None) -> Select[Any]:
    return query if states is None else query.where(column.in_(list(states)))


def _not_found(conn: Connection, name: str, *, ambiguous: bool) -> NotFound:
    query = select(t.sweeps.c.id, t.sweeps.c.name).order_by(t.sweeps.c.created_at.desc())
    if ambiguous:
        query = query.where(t.sweeps.c.id.startswith(name, autoescape=True))
    rows = conn.execute(query.limit(_LOOKED_AT)).all()
    listed = ", ".join(f"{row.id} ({row.name})" for row in rows[:_LISTED]) or "none yet"
    rule = "a sweep is named by its id, a unique prefix of it, or its name"
    problem = f"{name!r} is ambiguous" if ambiguous else f"no sweep fits {name!r}"
    near = get_close_matches(name, [row.name for row in rows], n=1)
    meant = f"did you mean {near[0]!r}? " if near and not ambiguous else ""
    return NotFound(f"{rule}; {problem}\n{meant}sweeps: {listed}")

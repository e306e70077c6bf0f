"""The scheduler's side of the records: create a sweep, decide its next trials, requeue lost ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from kerasweep.jobs.queue.hints import Hint
from kerasweep.jobs.store.decision import Decision as Decision
from kerasweep.jobs.store.faults.setbacks import count_alike
from kerasweep.jobs.store.faults.verdict import Record, judge
from kerasweep.jobs.store.models import EarlierResult, SweepRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.moves import TrialRow, end_attempt, lock_sweep, lock_trials, state_after
from kerasweep.jobs.store.sql.rows import read_sweep, write_journal
from kerasweep.jobs.trial import (
    FINAL,
    Answer,
    AttemptKey,
    Failure,
    FailureClass,
    SweepState,
    TrialKey,
    TrialState,
)

T = TypeVar("T")

_CHUNK = 500


class SweepRecords:
    """The scheduler's side of the records."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create_sweep(self, sweep: SweepRecord, earlier: Sequence[EarlierResult] = ()) -> None:
        """Add a sweep without trials, with what it learns from an earlier one; its times are on the store's
        clock.
        """
        with self._db.writing() as conn:
            now = self._db.now(conn)
            conn.execute(
                t.sweeps.insert().values(
                    id=sweep.id,
                    name=sweep.name,
                    state=sweep.state,
                    spec=sweep.spec.model_dump(mode="json"),
                    max_trials=sweep.max_trials,
                    entry=sweep.entry,
                    bundle_key=sweep.bundle.key,
                    bundle_sha256=sweep.bundle.sha256,
                    engine=sweep.engine,
                    source=dict(sweep.source),
                    message="",
                    created_at=now,
                )
            )
            reason = f"{sweep.name}, up to {sweep.max_trials} trials"
            write_journal(conn, now, sweep.id, "submitted", reason, state=sweep.state)
            if earlier:
                rows = [_row_of(sweep.id, number, one) for number, one in enumerate(earlier)]
                conn.execute(t.earlier.insert(), rows)
                told = f"{len(earlier)} results of sweep {earlier[0].source}"
                write_journal(conn, now, sweep.id, "learns from", told)

    @contextmanager
    def deciding(self, sweep: str) -> Iterator[Decision]:
        """Hold the sweep's lock while decisions are made; they are committed together.

        Raises:
            NotFound: no such sweep.
        """
        with self._db.writing() as conn:
            yield Decision(conn, read_sweep(conn, sweep, lock=True), self._db.now(conn))

    def expire_leases(self) -> list[TrialKey]:
        """Requeue every trial whose lease expired because its worker or host is gone; return them."""
        with self._db.writing() as conn:
            now = self._db.now(conn)
            late = and_(t.trials.c.state == TrialState.RUNNING, t.trials.c.lease_until < now)
            sweeps = conn.execute(
                select(t.trials.c.sweep).where(late).distinct().order_by(t.trials.c.sweep)
            ).scalars()
            return [key for sweep in sweeps.all() for key in _take_back(conn, sweep, late, now)]

    def unhinted(
        self, older_than_s: float | None = None, sweep: str | None = None, limit: int = 1000
    ) -> list[Hint]:
        """Return hints to send for the queued trials of running sweeps that have had none.

        Args:
            older_than_s: also those whose last hint is older than this, in seconds.
            sweep: only this sweep.
            limit: the maximum number.
        """
        with self._db.reading() as conn:
            due: ColumnElement[bool] = t.trials.c.hinted_at.is_(None)
            if older_than_s is not None:
                due = or_(due, t.trials.c.hinted_at < self._db.now(conn) - older_than_s)
            waited = exists().where(t.rungs.c.sweep == t.trials.c.sweep, t.rungs.c.trial == t.trials.c.number)
            columns = (
                waited.label("waited"),
                t.trials.c.sweep,
                t.trials.c.number,
                t.trials.c.attempt,
                t.trials.c.params,
                t.sweeps.c.name,
            )
            query = (
                select(*columns)
                .join(t.sweeps, t.sweeps.c.id == t.trials.c.sweep)
                .where(t.trials.c.state == TrialState.QUEUED, t.sweeps.c.state == SweepState.RUNNING, due)
                .order_by(t.sweeps.c.created_at, t.trials.c.sweep, t.trials.c.number)
                .limit(limit)
            )
            rows = conn.execute(query if sweep is None else query.where(t.sweeps.c.id == sweep)).all()
            gpus = _gpus_of(conn, {row.sweep for row in rows})
        return [
            Hint(
                key=TrialKey(row.sweep, row.number),
                attempt=row.attempt + 1,
                name=row.name,
                gpus=gpus[row.sweep],
                params=row.params,
                waited=bool(row.waited),
            )
            for row in rows
        ]

    def mark_hinted(self, hints: Iterable[Hint]) -> None:
        """Record that these hints were just sent, or seen in their queue.

        A trial whose attempts have moved on since is not marked: its newest attempt has had no hint.
        """
        alike: dict[tuple[str, int], list[int]] = {}
        for hint in hints:
            alike.setdefault((hint.key.sweep, hint.attempt - 1), []).append(hint.key.trial)
        with self._db.writing() as conn:
            now = self._db.now(conn)
            for (sweep, attempt), numbers in sorted(alike.items()):
                for some in _chunks(sorted(numbers)):
                    queued = and_(
                        t.trials.c.sweep == sweep,
                        t.trials.c.number.in_(some),
                        t.trials.c.attempt == attempt,
                        t.trials.c.state == TrialState.QUEUED,
                    )
                    in_order = select(t.trials.c.number).where(queued).order_by(t.trials.c.number)
                    conn.execute(in_order.with_for_update(key_share=True))
                    conn.execute(t.trials.update().where(queued).values(hinted_at=now))

    def cancel_trial(self, key: TrialKey, reason: str) -> None:
        """Cancel one trial in any state; one that has ended stays as it is.

        Raises:
            NotFound: no such sweep or trial.
        """
        with self.deciding(key.sweep) as decision:
            if decision.trial_state(key.trial) not in FINAL:
                decision.move_or_ask(TrialState.CANCELLED, Answer.CANCEL, key.trial, reason)


def _row_of(sweep: str, number: int, one: EarlierResult) -> dict[str, Any]:
    where = {"sweep": sweep, "number": number, "source": one.source, "trial": one.trial, "state": one.state}
    return {**where, "params": dict(one.params), "value": one.value, "rungs": sorted(one.rungs.items())}


def _take_back(conn: Connection, sweep: str, late: ColumnElement[bool], now: float) -> list[TrialKey]:
    """Requeue a sweep's trials with expired leases; skip those whose attempt is writing at this moment."""
    lock_sweep(conn, sweep)
    rows = lock_trials(conn, and_(late, t.trials.c.sweep == sweep), skip_locked=True)
    for row in rows:
        _end_lost(conn, row, now)
    return [TrialKey(row.sweep, row.number) for row in rows]


def _end_lost(conn: Connection, row: TrialRow, now: float) -> None:
    message = f"the lease of {row.worker} ran out" if row.lease_until else f"{row.worker} has died"
    key, outcome = AttemptKey(row.sweep, row.number, row.attempt), f"failed: {FailureClass.LOST}"
    retries = read_sweep(conn, row.sweep).spec.retries
    alike = count_alike(conn, key, outcome, retries.max_interruptions)
    verdict = judge(Failure(FailureClass.LOST, message), 1, Record(None, row.failures, alike), retries)
    state = state_after(row, verdict.state)
    reason = verdict.reason if state.final else message
    told = {"outcome": outcome, "event": str(FailureClass.LOST), "reason": reason, "message": message}
    end_attempt(conn, key, state, now, **told, **verdict.changes)


def _gpus_of(conn: Connection, sweeps: Iterable[str]) -> dict[str, int]:
    query = select(t.sweeps.c.id, t.sweeps.c.spec).where(t.sweeps.c.id.in_(sorted(sweeps)))
    return {row.id: row.spec["resources"]["gpus"] for row in conn.execute(query)}


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]

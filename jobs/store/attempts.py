"""The worker's side of the records: claim a trial, record its progress, end the attempt.

Every move is a compare-and-set under the attempt's number, in one transaction, on the store's clock. An
attempt that is no longer the newest changes nothing and is told so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from kerasweep.jobs.errors import IllegalMove
from kerasweep.jobs.excerpt import MESSAGE_CHARS, excerpt
from kerasweep.jobs.queue.hints import encode_metrics
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.faults.quarantines import MAY_CLAIM, begin_probe, take_back
from kerasweep.jobs.store.faults.setbacks import count_alike
from kerasweep.jobs.store.faults.verdict import Record, Verdict, judge
from kerasweep.jobs.store.models import Claim, Demand, Progress, Result, outcome_of_wait
from kerasweep.jobs.store.progress import (
    forget_epochs_after,
    read_checkpoints,
    renew_leases,
    write_artifacts,
    write_progress,
    write_rung,
)
from kerasweep.jobs.store.ranking import bar_of
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.store.sql.moves import (
    IS_ATTEMPT,
    IS_QUEUED,
    READ_TRIAL,
    TrialRow,
    answer_to,
    end_attempt,
    lock_held,
    lock_running,
    lock_sweep,
    named,
    stale,
    state_after,
)
from kerasweep.jobs.store.sql.rows import read_sweep, storable, write_journal
from kerasweep.jobs.trial import (
    COUNTED,
    UNCOUNTED,
    Answer,
    AttemptKey,
    Failure,
    FailureClass,
    SweepState,
    TrialKey,
    TrialState,
)

_RELEASED = (TrialState.QUEUED, TrialState.PAUSED, TrialState.CANCELLED)
#: A failed trial does not count, whatever it had reached at a rung.
_NOTHING_REACHED: dict[str, Any] = {"value": None, "best_epoch": None, "digest": None, "metrics": {}}


_CLAIM = (
    t.trials.update()
    .where(
        IS_QUEUED,
        MAY_CLAIM,
        select(t.sweeps.c.id)
        .where(t.sweeps.c.id == bindparam("of_sweep"), t.sweeps.c.state == SweepState.RUNNING)
        .exists(),
    )
    .values(
        state=TrialState.RUNNING,
        attempt=t.trials.c.attempt + 1,
        lease_until=bindparam("until"),
        worker=bindparam("worker"),
        asked=None,
        started_at=func.coalesce(t.trials.c.started_at, bindparam("now")),
    )
)
_DEMAND = (
    select(t.trials.c.pack_limit, t.sweeps.c.spec)
    .join_from(t.trials, t.sweeps, t.sweeps.c.id == t.trials.c.sweep)
    .where(t.trials.c.sweep == bindparam("of_sweep"), t.trials.c.number == bindparam("of_trial"))
)
_NEW_ATTEMPT = t.attempts.insert()
_DECISIONS = select(t.decisions).where(t.decisions.c.sweep == bindparam("of_sweep"))
_SAME_END = select(t.attempts.c.number).where(IS_ATTEMPT, t.attempts.c.outcome == bindparam("outcome"))


class AttemptRecords:
    """The worker's side of the records. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def claim(self, key: TrialKey, worker: str, lease_s: float) -> Claim | None:
        """Claim a queued trial of a running sweep; return None if it cannot be claimed.

        A quarantined worker claims nothing until it is due for a probe.
        """
        with self._db.writing() as conn:
            now = self._db.now(conn)
            taken = {
                "of_sweep": key.sweep,
                "of_trial": key.trial,
                "worker": worker,
                "now": now,
                "until": now + lease_s,
            }
            if not conn.execute(_CLAIM, taken).rowcount:
                return None
            begin_probe(conn, worker, now)
            return _claimed(conn, key, worker, now)

    def demand(self, key: TrialKey) -> Demand | None:
        """Return what a trial's next attempt asks of a worker; None if there is no such trial."""
        with self._db.reading() as conn:
            row = conn.execute(_DEMAND, {"of_sweep": key.sweep, "of_trial": key.trial}).one_or_none()
            return None if row is None else Demand(row.spec["resources"]["gpus"], row.pack_limit)

    def record(self, progress: Sequence[Progress], lease_s: float) -> dict[AttemptKey, Answer]:
        """Write the progress of attempts, renew their leases, and return the answer to each."""
        answers = {item.key: Answer.STALE for item in progress}
        if not progress:
            return answers
        with self._db.writing() as conn:
            now = self._db.now(conn)
            for row in lock_running(conn, (key.of_trial for key in answers)):
                key = AttemptKey(row.sweep, row.number, row.attempt)
                if key in answers:
                    answers[key] = answer_to(row)
            held = [item for item in progress if answers[item.key] is not Answer.STALE]
            renew_leases(conn, held, now + lease_s)
            write_progress(conn, held, now)
        return answers

    def decide(self, sweep: str, key: str, value: Any, reason: str) -> Any:
        """Bind the sweep to a measured choice, unless one is already recorded; return the one that binds."""
        with self._db.writing() as conn:
            lock_sweep(conn, sweep, alone=True)
            query = select(t.decisions.c.value).where(t.decisions.c.sweep == sweep, t.decisions.c.key == key)
            bound = conn.execute(query).one_or_none()
            if bound is not None:
                return bound.value
            choice = {"sweep": sweep, "key": key, "value": value, "reason": storable(reason)}
            conn.execute(t.decisions.insert().values(choice))
            write_journal(conn, self._db.now(conn), sweep, "decided", f"{key} = {value}: {reason}")
            return value

    def finish(self, key: AttemptKey, result: Result, progress: Progress | None = None) -> None:
        """End a trial with its result; the model must be durable already. Idempotent.

        Raises:
            IllegalMove: the result's state is neither completed nor stopped.
            StaleAttempt: the attempt no longer holds its trial.
        """
        if result.state not in COUNTED:
            raise IllegalMove(f"a result is completed or stopped, got {result.state} from attempt {key}")
        with self._db.writing() as conn:
            now = self._db.now(conn)
            row = lock_held(conn, key)
            if row is None:
                _expect_finished(conn, key, result)
                return
            write_progress(conn, [progress] if progress else [], now)
            forget_epochs_after(conn, key.of_trial, result.epochs)
            write_artifacts(conn, [(key, result.model)] if result.model else [], now)
            reason = f"value {result.value:g} of epoch {result.best_epoch}, after {result.epochs} epochs"
            if take_back(conn, row.worker):  # it was a probe
                reason += f"; {row.worker} is no longer set aside"
            ended = {"outcome": str(result.state), "event": str(result.state), "reason": reason}
            end_attempt(conn, key, result.state, now, **ended, **_columns_of(result))

    def hold(self, key: AttemptKey, result: Result, checkpoint: ArtifactRef, progress: Progress) -> None:
        """Let a trial wait at its rung, which is the result's last epoch. Idempotent.

        Args:
            key: the attempt.
            result: the trial's result so far, without a model; it counts if the trial is stopped here.
            checkpoint: of that epoch, already durable: recorded in the same transaction.
            progress: what has not been written yet.

        Raises:
            IllegalMove: the result is not that of a trial at its rung, or the checkpoint is of another epoch.
            StaleAttempt: the attempt no longer holds its trial.
        """
        if result.state is not TrialState.WAITING or checkpoint.epoch != result.epochs:
            rule = "a trial waits with a checkpoint of its rung"
            raise IllegalMove(f"{rule}, got {checkpoint} from attempt {key}")
        outcome = outcome_of_wait(result.epochs)
        with self._db.writing() as conn:
            now = self._db.now(conn)
            lock_sweep(conn, key.sweep)
            row = lock_held(conn, key)
            if row is None:
                _state_after_end(conn, key, outcome)
                return
            write_progress(conn, [progress], now)
            forget_epochs_after(conn, key.of_trial, result.epochs)
            write_artifacts(conn, [(key, checkpoint)], now)
            write_rung(conn, key.of_trial, result.epochs, result.value)
            reason = f"value {result.value:g} of epoch {result.best_epoch}, at epoch {result.epochs}"
            ended = {"outcome": outcome, "event": "waiting", "reason": reason}
            state = state_after(row, TrialState.WAITING)
            end_attempt(conn, key, state, now, **ended, **_columns_of(result))

    def fail(
        self, key: AttemptKey, failure: Failure, *, pack: int = 1, progress: Progress | None = None
    ) -> TrialState:
        """Record a failed attempt; return the trial's new state. Idempotent.

        Args:
            key: the attempt.
            failure: what went wrong.
            pack: how many trials trained together; a wide pack is retried narrower, without counting.
            progress: what has not been written yet.

        Raises:
            StaleAttempt: the attempt no longer holds its trial.
        """
        outcome = f"failed: {failure.cls}"
        with self._db.writing() as conn:
            now = self._db.now(conn)
            lock_sweep(conn, key.sweep)
            row = lock_held(conn, key)
            if row is None:
                return _state_after_end(conn, key, outcome)
            write_progress(conn, [progress] if progress else [], now)
            message = storable(excerpt(failure.message, MESSAGE_CHARS))
            retries = read_sweep(conn, key.sweep).spec.retries
            bound = retries.bound_of(failure.cls)
            alike = count_alike(conn, key, outcome, bound) if failure.cls in UNCOUNTED else 0
            record = Record(row.pack_limit, row.failures, alike)
            verdict = judge(Failure(failure.cls, message), pack, record, retries)
            return _end_badly(conn, key, row, verdict, now, outcome, message)

    def release(
        self, key: AttemptKey, target: TrialState, reason: str, progress: Progress | None = None
    ) -> None:
        """Give a trial back as queued, paused or cancelled, without counting a failure. Idempotent.

        A request made meanwhile takes precedence over `target`: a pause or cancel that the attempt has not
        heard of is kept, and a withdrawn pause leads to `queued`.

        Raises:
            IllegalMove: another target.
            StaleAttempt: the attempt no longer holds its trial.
        """
        if target not in _RELEASED:
            raise IllegalMove(
                f"a trial is released as queued, paused or cancelled, got {target} from attempt {key}"
            )
        outcome = f"released: {target}"
        with self._db.writing() as conn:
            now = self._db.now(conn)
            lock_sweep(conn, key.sweep)
            row = lock_held(conn, key)
            if row is None:
                _state_after_end(conn, key, outcome)
                return
            write_progress(conn, [progress] if progress else [], now)
            verdict = _judge_release(conn, key, target, outcome, storable(excerpt(reason, MESSAGE_CHARS)))
            _end_badly(conn, key, row, verdict, now, outcome, storable(reason), event="released")


def _claimed(conn: Connection, key: TrialKey, worker: str, now: float) -> Claim:
    row = conn.execute(READ_TRIAL, {"of_sweep": key.sweep, "of_trial": key.trial}).one()
    attempt = {"sweep": key.sweep, "trial": key.trial, "number": row.attempt}
    conn.execute(_NEW_ATTEMPT, {**attempt, "worker": worker, "started_at": now})
    moved = {"trial": key.trial, "attempt": row.attempt, "state": TrialState.RUNNING}
    sweep = read_sweep(conn, key.sweep)
    code = f", with bundle {sweep.bundle.sha256[:12]}" if "bundles" in sweep.source else ""
    write_journal(conn, now, key.sweep, "claimed", f"by {worker}{code}", **moved)
    decisions = conn.execute(_DECISIONS, {"of_sweep": key.sweep})
    return Claim(
        key=AttemptKey(key.sweep, key.trial, row.attempt),
        sweep=sweep,
        params=row.params,
        seed=row.seed,
        pack_limit=row.pack_limit,
        checkpoints=read_checkpoints(conn, key),
        decisions={decision.key: decision.value for decision in decisions},
        bar=bar_of(conn, sweep),
        rung=row.rung,
        ends=bool(row.ends),
    )


def _end_badly(
    conn: Connection,
    key: AttemptKey,
    row: TrialRow,
    verdict: Verdict,
    now: float,
    outcome: str,
    message: str,
    event: str = "failed",
) -> TrialState:
    state = state_after(row, verdict.state)
    ended = {"outcome": outcome, "event": event, "reason": verdict.reason, "message": message}
    changes = {**verdict.changes, **(_NOTHING_REACHED if state is TrialState.FAILED else {})}
    end_attempt(conn, key, state, now, **ended, **changes)
    return state


def _judge_release(
    conn: Connection, key: AttemptKey, target: TrialState, outcome: str, reason: str
) -> Verdict:
    """Release a trial to its target, unless it was requeued too often already."""
    if target is not TrialState.QUEUED:
        return Verdict(target, reason)
    retries = read_sweep(conn, key.sweep).spec.retries
    alike = count_alike(conn, key, outcome, retries.max_interruptions)
    if alike < retries.max_interruptions:
        return Verdict(target, reason)
    return judge(Failure(FailureClass.PREEMPTED, reason), 1, Record(None, 0, alike), retries)


def _columns_of(result: Result) -> dict[str, Any]:
    return {
        # SQLite cannot store NaN; so it is None in every store.
        "value": None if math.isnan(result.value) else result.value,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "metrics": encode_metrics(result.metrics),
        "digest": result.digest,
        "facts": dict(result.facts),
        "failure_class": None,
        "failure_message": None,
    }


def _expect_finished(conn: Connection, key: AttemptKey, result: Result) -> None:
    """Accept a result that this attempt has already written, as after a lost answer; refuse any other."""
    row = conn.execute(READ_TRIAL, named(key)).one_or_none()
    if row is None or (row.attempt, row.digest, row.state) != (key.attempt, result.digest, result.state):
        raise stale(key)


def _state_after_end(conn: Connection, key: AttemptKey, outcome: str) -> TrialState:
    """Accept an end that this attempt has already written; return the trial's state."""
    if conn.execute(_SAME_END, {**named(key), "outcome": outcome}).first() is None:
        raise stale(key)
    return TrialState(conn.execute(READ_TRIAL, named(key)).one().state)

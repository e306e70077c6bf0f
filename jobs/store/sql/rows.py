"""Converts rows to data: the one place that knows the columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, Row, Table, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.excerpt import RECORD_CHARS, excerpt
from kerasweep.jobs.queue.hints import decode_metrics
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import AttemptRecord, EarlierResult, JournalEntry, SweepRecord, TrialRecord
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialState

#: The columns of an attempt, as AttemptRecord has them.
ATTEMPT = tuple(t.attempts.c[one.name] for one in fields(AttemptRecord))
_JOURNAL = t.journal.insert()
_TRIAL = tuple(t.trials.c.keys())
_SWEEP = select(t.sweeps).where(t.sweeps.c.id == bindparam("of_sweep"))
_LOCKED_SWEEP = _SWEEP.with_for_update(key_share=True)


def sweep_of(row: Row[tuple[object, ...]]) -> SweepRecord:
    """Read a row of `sweeps`."""
    return SweepRecord(
        id=row.id,
        name=row.name,
        state=SweepState(row.state),
        spec=_spec_of(json.dumps(row.spec)),
        max_trials=row.max_trials,
        entry=row.entry,
        bundle=ArtifactRef("bundle", row.bundle_key, row.bundle_sha256, 0),
        engine=row.engine,
        source=row.source,
        message=row.message,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


@lru_cache(maxsize=32)
def _spec_of(text: str) -> SweepSpec:
    """Read a sweep file's content; each decision reads the same one twice."""
    return SweepSpec.model_validate(json.loads(text))


def trial_of(row: Row[Any]) -> TrialRecord:
    """Read a row of `trials`, all of whose columns were selected."""
    # A row's attributes cost a microsecond each, which tells with ten thousand trials.
    found = dict(zip(_TRIAL, row, strict=True))
    failed = found["failure_class"] is not None
    return TrialRecord(
        sweep=found["sweep"],
        number=found["number"],
        state=TrialState(found["state"]),
        params=found["params"],
        seed=found["seed"],
        attempt=found["attempt"],
        failures=found["failures"],
        worker=found["worker"],
        lease_until=found["lease_until"],
        value=found["value"],
        best_epoch=found["best_epoch"],
        epochs=found["epochs"],
        metrics=decode_metrics(found["metrics"]),
        failure=Failure(FailureClass(found["failure_class"]), found["failure_message"] or "")
        if failed
        else None,
        digest=found["digest"],
        facts=found["facts"],
        created_at=found["created_at"],
        started_at=found["started_at"],
        finished_at=found["finished_at"],
        rung=found["rung"],
        ends=bool(found["ends"]),
        by_hand=bool(found["by_hand"]),
    )


def read_earlier(conn: Connection, sweep: str) -> list[EarlierResult]:
    """Read what a sweep learns from an earlier one, in order."""
    query = select(t.earlier).where(t.earlier.c.sweep == sweep).order_by(t.earlier.c.number)
    return [
        EarlierResult(row.source, row.trial, TrialState(row.state), row.params, row.value, dict(row.rungs))
        for row in conn.execute(query)
    ]


def artifact_of(row: Row[tuple[object, ...]]) -> ArtifactRef:
    """Read a row of `artifacts`."""
    return ArtifactRef(row.kind, row.key, row.sha256, row.bytes, row.epoch)


def journal_of(row: Row[tuple[object, ...]]) -> JournalEntry:
    """Read a row of `journal`."""
    return JournalEntry(row.id, row.trial, row.attempt, row.at, row.event, row.reason, row.state)


def attempt_of(row: Row[Any]) -> AttemptRecord:
    """Read a row of the columns `ATTEMPT`."""
    return AttemptRecord(*cast("tuple[Any, ...]", row))


def read_sweep(conn: Connection, sweep: str, *, lock: bool = False) -> SweepRecord:
    """Read a sweep; with `lock`, keep schedulers away until the transaction ends.

    Raises:
        NotFound: no such sweep.
    """
    row = conn.execute(_LOCKED_SWEEP if lock else _SWEEP, {"of_sweep": sweep}).one_or_none()
    if row is None:
        raise NotFound(f"a sweep must be on record, got id {sweep!r}; `kerasweep ls` lists them")
    return sweep_of(row)


def last_of(conn: Connection, sweep: str, events: Sequence[str]) -> tuple[str, str] | None:
    """Return the latest journal entry of these events, as event and reason; None if there is none."""
    mine = (t.journal.c.sweep == sweep, t.journal.c.event.in_(events))
    query = select(t.journal.c.event, t.journal.c.reason).where(*mine).order_by(t.journal.c.id.desc())
    row = conn.execute(query.limit(1)).first()
    return None if row is None else (row.event, row.reason)


def write_journal(
    conn: Connection,
    at: float,
    sweep: str,
    event: str,
    reason: str,
    *,
    trial: int | None = None,
    attempt: int | None = None,
    state: TrialState | SweepState | None = None,
) -> None:
    """Append a decision and its reason to the journal.

    Args:
        conn: a writing connection.
        at: the store's time.
        sweep: the sweep's id.
        event: what happened, in a word or two.
        reason: why.
        trial: the trial concerned; None for the sweep.
        attempt: the attempt concerned.
        state: the new state of the trial or sweep, if it changed.
    """
    line = {
        "sweep": sweep,
        "trial": trial,
        "attempt": attempt,
        "at": at,
        "event": event,
        "state": state,
        "reason": storable(reason),
    }
    conn.execute(_JOURNAL, line)


def storable(text: str) -> str:
    """Return text that both databases accept: a job may print NUL bytes or lone surrogates.

    Excessively long text is cut, with a note.
    """
    kept = excerpt(text, RECORD_CHARS)
    return kept.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")


def insert_into(dialect: str, table: Table) -> Any:
    """Return the dialect's own insert, which supports `on conflict`."""
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)

"""Writes what attempts report in batches: epochs, artifacts, log lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import cast

from sqlalchemy import Connection, Executable, and_, bindparam, select

from kerasweep.jobs.queue.hints import encode_metrics
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.moves import IS_HELD, named
from kerasweep.jobs.store.sql.rows import artifact_of, insert_into, storable
from kerasweep.jobs.trial import AttemptKey, TrialKey

_RENEW = t.trials.update().where(IS_HELD).values(lease_until=bindparam("until"))
_COUNT_EPOCHS = t.trials.update().where(IS_HELD).values(epochs=bindparam("newest"))
_CHECKPOINTS = (
    select(t.artifacts)
    .where(
        t.artifacts.c.sweep == bindparam("of_sweep"),
        t.artifacts.c.trial == bindparam("of_trial"),
        t.artifacts.c.kind == "checkpoint",
    )
    .order_by(t.artifacts.c.epoch.desc(), t.artifacts.c.created_at.desc(), t.artifacts.c.key)
)


def renew_leases(conn: Connection, held: Sequence[Progress], lease_until: float) -> None:
    """Renew the leases of attempts whose trials are already locked."""
    rows = [{**named(item.key), "until": lease_until} for item in held]
    if rows:
        conn.execute(_RENEW, rows)


def write_progress(conn: Connection, progress: Iterable[Progress], now: float) -> None:
    """Write the progress of attempts, which must hold their trials."""
    progress = list(progress)
    _write_epochs(conn, progress, now)
    write_artifacts(conn, [(item.key, ref) for item in progress for ref in item.checkpoints], now)
    lines = [
        {
            "sweep": item.key.sweep,
            "trial": item.key.trial,
            "attempt": item.key.attempt,
            "at": now,
            "text": storable(text),
        }
        for item in progress
        for text in item.logs
    ]
    if lines:
        conn.execute(t.logs.insert(), lines)


def write_artifacts(conn: Connection, refs: Iterable[tuple[AttemptKey, ArtifactRef]], now: float) -> None:
    """Record artifacts that are already durable."""
    rows = [
        {**ref.to_json(), "sweep": key.sweep, "trial": key.trial, "attempt": key.attempt, "created_at": now}
        for key, ref in refs
    ]
    if rows:
        conn.execute(_new_artifacts(conn.dialect.name), rows)


def forget_epochs_after(conn: Connection, key: TrialKey, epoch: int) -> None:
    """Drop the epochs after the one resumed from: an earlier attempt may have gone further."""
    of_trial = and_(t.epochs.c.sweep == key.sweep, t.epochs.c.trial == key.trial)
    conn.execute(t.epochs.delete().where(of_trial, t.epochs.c.epoch > epoch))


def write_rung(conn: Connection, key: TrialKey, epoch: int, value: float) -> None:
    """Write a trial's value at a rung; if it is trained again, this replaces the earlier one."""
    insert = insert_into(conn.dialect.name, t.rungs).values(
        sweep=key.sweep, trial=key.trial, epoch=epoch, value=value
    )
    same = ["sweep", "trial", "epoch"]
    conn.execute(insert.on_conflict_do_update(index_elements=same, set_={"value": value}))


def read_checkpoints(conn: Connection, key: TrialKey) -> tuple[ArtifactRef, ...]:
    """Return a trial's checkpoints, newest epoch first."""
    found = conn.execute(_CHECKPOINTS, {"of_sweep": key.sweep, "of_trial": key.trial})
    return tuple(artifact_of(row) for row in found)


def _write_epochs(conn: Connection, progress: Iterable[Progress], now: float) -> None:
    """Write epochs; one that a resumed attempt trains again replaces the earlier record."""
    rows = [
        {
            "sweep": item.key.sweep,
            "trial": item.key.trial,
            "epoch": epoch.epoch,
            "attempt": item.key.attempt,
            "metrics": encode_metrics(epoch.metrics),
            "seconds": epoch.seconds,
            "at": now,
        }
        for item in progress
        for epoch in item.epochs
    ]
    if rows:
        newest = [
            {**named(item.key), "newest": max(epoch.epoch for epoch in item.epochs)}
            for item in progress
            if item.epochs
        ]
        conn.execute(_COUNT_EPOCHS, newest)
        conn.execute(_fresh_epochs(conn.dialect.name), rows)


@cache
def _fresh_epochs(dialect: str) -> Executable:
    insert = insert_into(dialect, t.epochs)
    fresh = {name: insert.excluded[name] for name in ("attempt", "metrics", "seconds", "at")}
    return cast(
        Executable, insert.on_conflict_do_update(index_elements=["sweep", "trial", "epoch"], set_=fresh)
    )


@cache
def _new_artifacts(dialect: str) -> Executable:
    return cast(Executable, insert_into(dialect, t.artifacts).on_conflict_do_nothing())

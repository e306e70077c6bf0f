"""The records' tables. Times are seconds since 1970 on the store's own clock."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

#: The newest migration in `jobs/store/migrations`. docs/migrations.md explains how to add one.
SCHEMA_VERSION = 6

#: The oldest code that works with these tables; raised by a migration that removes something or allows values
#: that older code does not know. It is kept in the store, so that older code can tell.
COMPATIBLE_FROM = 6

metadata = MetaData()

# SQLite assigns row ids only to columns of type INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")

#: One row with the version of these tables; Alembic maintains it.
schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

#: One row: which store this is. `generation` grows while its schedulers work, here first and then in the
#: marker beside the artifacts, so that outdated records are recognised. `claims`: whether it may mark
#: unmarked artifacts as its own.
store = Table(
    "store",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("made_at", Float, nullable=False),
    Column("compatible_from", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("claims", Boolean, nullable=False),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String, nullable=False),
    Column("state", String(16), nullable=False),
    Column("spec", JSON, nullable=False),
    Column("max_trials", Integer, nullable=False),
    Column("entry", String, nullable=False),
    Column("bundle_key", String, nullable=False),
    Column("bundle_sha256", String(64), nullable=False),
    Column("engine", String(16), nullable=False),
    Column("source", JSON, nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index("sweeps_by_name", "name", "created_at"),
)

trials = Table(
    "trials",
    metadata,
    Column("sweep", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("params", JSON, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False, default=0),
    # The widest pack for the next attempt; null: no limit.
    Column("pack_limit", Integer),
    # The request to the running attempt: pause, stop or cancel.
    Column("asked", String(16)),
    # The epoch at which the next attempt stops, or the trial waits; null: it trains to its end.
    Column("rung", Integer),
    # Whether the trial ends at its rung, with the value that it has there.
    Column("ends", Boolean, nullable=False, default=False, server_default=false()),
    # Whether the user chose the point.
    Column("by_hand", Boolean, nullable=False, default=False, server_default=false()),
    Column("lease_until", Float),
    Column("worker", String),
    Column("hinted_at", Float),
    Column("value", Float),
    Column("best_epoch", Integer),
    Column("epochs", Integer, nullable=False, default=0),
    Column("metrics", JSON, nullable=False),
    Column("failure_class", String(16)),
    Column("failure_message", Text),
    Column("digest", String(64)),
    Column("facts", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    ForeignKeyConstraint(["sweep"], ["sweeps.id"]),
    Index("trials_by_state", "sweep", "state"),
    Index("trials_by_lease", "state", "lease_until"),
    Index("trials_by_value", "sweep", "value"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("sweep", String(32), primary_key=True),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("worker", String, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("outcome", String(32)),
    Column("message", Text),
    ForeignKeyConstraint(["sweep", "trial"], ["trials.sweep", "trials.number"]),
    Index("attempts_by_worker", "sweep", "worker", "ended_at"),
)

epochs = Table(
    "epochs",
    metadata,
    Column("sweep", String(32), primary_key=True),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("at", Float, nullable=False),
    ForeignKeyConstraint(["sweep", "trial"], ["trials.sweep", "trials.number"]),
)

#: The values of trials that waited at a rung.
rungs = Table(
    "rungs",
    metadata,
    Column("sweep", String(32), primary_key=True),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("value", Float, nullable=False),
    ForeignKeyConstraint(["sweep", "trial"], ["trials.sweep", "trials.number"]),
)

#: The results of an earlier sweep that a sweep learns from. `source` and `trial` say where they came from;
#: that sweep may be gone.
earlier = Table(
    "earlier",
    metadata,
    Column("sweep", String(32), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("source", String(32), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("params", JSON, nullable=False),
    # Null: the trial diverged.
    Column("value", Float),
    # Its best value by each rung of this sweep that it reached: a list of [epoch, value].
    Column("rungs", JSON, nullable=False),
    ForeignKeyConstraint(["sweep"], ["sweeps.id"]),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("key", String, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("sweep", String(32), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Float, nullable=False),
    # Since when nothing needs it; it is deleted after a grace period.
    Column("unneeded_at", Float),
    ForeignKeyConstraint(["sweep", "trial"], ["trials.sweep", "trials.number"]),
    Index("artifacts_by_trial", "sweep", "trial", "kind", "epoch"),
)

#: Choices measured once for a sweep that bind every later attempt, such as XLA or not for a graph.
decisions = Table(
    "decisions",
    metadata,
    Column("sweep", String(32), primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    ForeignKeyConstraint(["sweep"], ["sweeps.id"]),
)

logs = Table(
    "logs",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("sweep", String(32), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("text", Text, nullable=False),
    Index("logs_by_trial", "sweep", "trial", "id"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("sweep", String(32), nullable=False),
    Column("trial", Integer),
    Column("attempt", Integer),
    Column("at", Float, nullable=False),
    Column("event", String(32), nullable=False),
    # The state of the trial (or sweep, if there is no trial) after the event; null if unchanged.
    Column("state", String(16)),
    Column("reason", Text, nullable=False),
    Index("journal_by_sweep", "sweep", "id"),
)

#: Quarantined workers: trials failed on them alone.
quarantine = Table(
    "quarantine",
    metadata,
    Column("worker", String, primary_key=True),
    Column("sweep", String(32), nullable=False),
    Column("since", Float, nullable=False),
    Column("probe_at", Float, nullable=False),
    Column("probe_s", Float, nullable=False),
    Column("reason", Text, nullable=False),
)


def _signed_in(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", String, primary_key=True),
        Column("facts", JSON, nullable=False),
        Column("seen_at", Float, nullable=False),
    )


workers, schedulers = _signed_in("workers"), _signed_in("schedulers")

"""Version 1: the tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa

from kerasweep.jobs.store.sql.altering import ROW_ID, add_table

revision = "1"
down_revision = None

_OF_TRIAL = (["sweep", "trial"], ["trials.sweep", "trials.number"])


def upgrade() -> None:
    """Create the tables."""
    _sweeps()
    _trials()
    _attempts_and_epochs()
    _artifacts()
    _logs_and_journal()
    add_table(
        "workers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )


def _sweeps() -> None:
    add_table(
        "sweeps",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("max_trials", sa.Integer, nullable=False),
        sa.Column("entry", sa.String, nullable=False),
        sa.Column("bundle_key", sa.String, nullable=False),
        sa.Column("bundle_sha256", sa.String(64), nullable=False),
        sa.Column("engine", sa.String(16), nullable=False),
        sa.Column("source", sa.JSON, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("finished_at", sa.Float),
        sa.Index("sweeps_by_name", "name", "created_at"),
    )
    add_table(
        "decisions",
        sa.Column("sweep", sa.String(32), primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["sweep"], ["sweeps.id"]),
    )


def _trials() -> None:
    add_table(
        "trials",
        sa.Column("sweep", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("pack_limit", sa.Integer),
        sa.Column("asked", sa.String(16)),
        sa.Column("lease_until", sa.Float),
        sa.Column("worker", sa.String),
        sa.Column("hinted_at", sa.Float),
        sa.Column("value", sa.Float),
        sa.Column("best_epoch", sa.Integer),
        sa.Column("epochs", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("failure_class", sa.String(16)),
        sa.Column("failure_message", sa.Text),
        sa.Column("digest", sa.String(64)),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        sa.ForeignKeyConstraint(["sweep"], ["sweeps.id"]),
        sa.Index("trials_by_state", "sweep", "state"),
        sa.Index("trials_by_lease", "state", "lease_until"),
        sa.Index("trials_by_value", "sweep", "value"),
    )


def _attempts_and_epochs() -> None:
    add_table(
        "attempts",
        sa.Column("sweep", sa.String(32), primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("outcome", sa.String(32)),
        sa.Column("message", sa.Text),
        sa.ForeignKeyConstraint(*_OF_TRIAL),
    )
    add_table(
        "epochs",
        sa.Column("sweep", sa.String(32), primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(*_OF_TRIAL),
    )


def _artifacts() -> None:
    add_table(
        "artifacts",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sweep", sa.String(32), nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(*_OF_TRIAL),
        sa.Index("artifacts_by_trial", "sweep", "trial", "kind", "epoch"),
    )


def _logs_and_journal() -> None:
    add_table(
        "logs",
        sa.Column("id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("sweep", sa.String(32), nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Index("logs_by_trial", "sweep", "trial", "id"),
    )
    add_table(
        "journal",
        sa.Column("id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("sweep", sa.String(32), nullable=False),
        sa.Column("trial", sa.Integer),
        sa.Column("attempt", sa.Integer),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Index("journal_by_sweep", "sweep", "id"),
    )

"""Version 6: a sweep may learn from the results of an earlier one."""

from __future__ import annotations

import sqlalchemy as sa

from kerasweep.jobs.store.sql.altering import add_table

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the results that were taken from an earlier sweep."""
    add_table(
        "earlier",
        sa.Column("sweep", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("rungs", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(["sweep"], ["sweeps.id"]),
    )

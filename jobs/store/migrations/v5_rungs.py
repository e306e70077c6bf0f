"""Version 5: trials wait at rungs for the stopping rule's decision."""

from __future__ import annotations

import sqlalchemy as sa

from kerasweep.jobs.store.sql.altering import add_column, add_table

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Add a trial's next rung, whether it ends there, whether the user chose it, and the values at rungs."""
    add_column("trials", sa.Column("rung", sa.Integer))
    add_column("trials", sa.Column("ends", sa.Boolean, nullable=False, server_default=sa.false()))
    add_column("trials", sa.Column("by_hand", sa.Boolean, nullable=False, server_default=sa.false()))
    add_table(
        "rungs",
        sa.Column("sweep", sa.String(32), primary_key=True),
        sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.ForeignKeyConstraint(["sweep", "trial"], ["trials.sweep", "trials.number"]),
    )

"""Version 2: schedulers register, as workers do."""

from __future__ import annotations

import sqlalchemy as sa

from kerasweep.jobs.store.sql.altering import add_table

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add the table of schedulers."""
    add_table(
        "schedulers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )

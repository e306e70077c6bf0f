"""Version 4: workers can be quarantined, and an index finds a worker's latest attempts at a sweep."""

from __future__ import annotations

import sqlalchemy as sa

from kerasweep.jobs.store.sql.altering import add_index, add_table

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add `quarantine` and the index `attempts_by_worker`."""
    add_table(
        "quarantine",
        sa.Column("worker", sa.String, primary_key=True),
        sa.Column("sweep", sa.String(32), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("probe_at", sa.Float, nullable=False),
        sa.Column("probe_s", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    add_index("attempts_by_worker", "attempts", "sweep", "worker", "ended_at")

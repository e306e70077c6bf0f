"""Version 3: a store has an identity, and unneeded artifacts wait before they are deleted."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

from kerasweep.jobs.store.sql.altering import add_column, add_table

revision = "3"
down_revision = "2"

_NAMESPACE = uuid.UUID("6b1d4a52-8a35-4f0e-9a0e-5b1f6f3f2a77")


def upgrade() -> None:
    """Add the identity and `artifacts.unneeded_at`.

    The identity is derived from the first sweep, so that a store and a copy made before identities existed
    get the same one: only then can the copy be recognised.
    """
    store = add_table(
        "store",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("compatible_from", sa.Integer, nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("claims", sa.Boolean, nullable=False),
    )
    add_column("artifacts", sa.Column("unneeded_at", sa.Float))
    conn = op.get_bind()
    if conn.execute(sa.text("select count(*) from store")).scalar_one() == 0:
        first = conn.execute(
            sa.text("select id, created_at from sweeps order by created_at, id limit 1")
        ).first()
        name = uuid.uuid5(_NAMESPACE, f"{first[0]} {first[1]!r}") if first else uuid.uuid4()
        values = {"id": name.hex, "made_at": first[1] if first else 0.0, "compatible_from": 3}
        # A store with sweeps may be a copy of another: it waits to be told that it is the original.
        conn.execute(store.insert().values(**values, generation=0, claims=first is None))

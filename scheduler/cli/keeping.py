"""Commands for what is kept: rm, gc, db."""

from __future__ import annotations

from typing import Any

from kerasweep.scheduler.cli.commands import SET_UP, Output, command, group
from kerasweep.scheduler.cli.output import OutputFormat, emit
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.show import tables

db = group("db", SET_UP, "Look at the store's tables, and bring them up to date.")


@command(SET_UP, "kerasweep db status", "kerasweep db status -o json", parent=db)
def status_(client: Client, output: Output = OutputFormat.TABLE) -> None:
    """Say which version of the tables the store holds, and which one this kerasweep needs."""
    document = client.store_version()
    emit(document, output, lambda: tables.facts_of(document))


@command(SET_UP, "kerasweep db upgrade", "kerasweep db upgrade --store sqlite:///old.db", parent=db)
def upgrade(client: Client, output: Output = OutputFormat.TABLE) -> None:
    """Bring a store of an earlier kerasweep up to date, with all that it holds.

    All of it or nothing. A SQLite file is copied first, and the copy stays; make a dump of a PostgreSQL
    database first (pg_dump). Afterwards restart the workers and schedulers of the earlier version.
    """
    document = client.upgrade_store()
    emit(document, output, lambda: tables.sentence(_upgraded(document)))


def _upgraded(document: dict[str, Any]) -> str:
    if document["before"] == document["after"]:
        return f"the store is up to date: version {document['after']}"
    kept = f"; the store as it was is kept in {document['backup']}" if document["backup"] else ""
    return f"the store is now of version {document['after']}, it was of version {document['before']}{kept}"

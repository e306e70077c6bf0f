"""Commands for what is kept: rm, gc, db."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from kerasweep.jobs.errors import InputError
from kerasweep.scheduler.cli.commands import SET_UP, Output, command, group
from kerasweep.scheduler.cli.output import OutputFormat, emit, say
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.show import tables

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

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


@command(SET_UP, "kerasweep db adopt", "kerasweep db adopt --yes", parent=db)
def adopt(client: Client, yes: Yes = False) -> None:
    """Make this store the one that deletes in its artifacts.

    Schedulers delete only what their own store made. A copy of a store deletes nothing: after a backup was
    restored, or a store moved, this says that the other one is no longer in use.
    """
    doubt = client.ownership.doubt()
    if doubt is None:
        say("this store may delete in its artifacts already")
        return
    say(f"until now: {doubt.partition(';')[0]}")
    confirm("Is the other store, if there is one, no longer in use?", yes)
    client.ownership.adopt()
    say("this store may delete in its artifacts now")


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be taken back.

    Raises:
        InputError: there is nobody to ask, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("this must be confirmed, and nobody is there to be asked; add --yes")
    if not typer.confirm(question, err=True):
        raise InputError("nothing was changed")


def _upgraded(document: dict[str, Any]) -> str:
    if document["before"] == document["after"]:
        return f"the store is up to date: version {document['after']}"
    kept = f"; the store as it was is kept in {document['backup']}" if document["backup"] else ""
    return f"the store is now of version {document['after']}, it was of version {document['before']}{kept}"

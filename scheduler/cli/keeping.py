"""Commands that clean up: rm, gc, db."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.cli import completion
from kerasweep.scheduler.cli.commands import SET_UP, STEER, Output, command, group
from kerasweep.scheduler.cli.output import OutputFormat, emit, say
from kerasweep.scheduler.client import removal, wording
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show import tables

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

_FORCED_S = 60.0


@command(
    STEER,
    "kerasweep rm mlp",
    "kerasweep rm --older-than 30d --yes",
    "kerasweep rm mlp --keep-best",
)
def rm(
    client: Client,
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SWEEP",
            help="Sweeps: an id, a unique prefix of it, or a name (the newest).",
            autocompletion=completion.sweeps,
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="SPAN",
            help="Only sweeps that ended at least this long ago: 30d, 12h.",
            show_default=False,
        ),
    ] = None,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Keep the records and the best trial's model.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel unfinished sweeps first.")] = False,
    yes: Yes = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Remove sweeps: records, models, checkpoints, curves.

    Only sweeps that have ended can be removed; this cannot be undone.
    """
    chosen = _chosen(client, sweeps or [], older_than)
    if not chosen:
        say("no sweep is that old" if older_than else "there is nothing to remove")
        return
    ended = [one for one in chosen if one.state.final]
    if not cancel and len(ended) < len(chosen):
        one = next(one for one in chosen if not one.state.final)
        raise InputError(
            f"a sweep must have ended to be removed, got sweep {one.name} ({one.id}), which is {one.state}\n"
            f"`kerasweep cancel {one.handle}` ends it first, or add --cancel"
        )
    names = ", ".join(f"{one.name} ({one.id})" for one in chosen)
    confirm(f"Remove {wording.count(len(chosen), 'sweep')} for good: {names}?", yes)
    documents = [_removed(client, one, keep_best) for one in chosen]
    emit(documents, output, lambda: tables.literal("\n".join(map(_told, documents))))


@command(STEER, "kerasweep gc", "kerasweep gc -o json")
def gc(
    client: Client,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown", help="Delete unrecorded sweeps even if another store may use the artifacts."
        ),
    ] = False,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Delete what nothing needs any more, and free the space.

    Unrecorded files, unfinished writes, bundles without a sweep; the SQLite file is compacted.
    Each waits for its grace period first (KERASWEEP_DELETE_GRACE_S).
    """
    client.expect_store("gc")
    document = removal.collect(client, unknown=unknown).to_json()
    if client.settings.home_path.is_dir():
        document["home_bytes"] = removal.size_of(client.settings.home_path)
    emit(document, output, lambda: tables.literal(_collected(document)))


def _chosen(client: Client, names: Sequence[str], older_than: str | None) -> list[Sweep]:
    if not names and older_than is None:
        raise InputError("name the sweeps to remove, or give --older-than; `kerasweep ls` lists them")
    found = [client.sweep(name) for name in names] if names else client.sweeps()
    if older_than is not None:
        latest = time.time() - removal.span_s(older_than)
        found = [one for one in found if (one.record.finished_at or time.time()) <= latest]
    return list({one.id: one for one in found}.values())


def _removed(client: Client, sweep: Sweep, keep_best: bool) -> dict[str, Any]:
    if not sweep.state.final:
        sweep.cancel()
    deadline = time.monotonic() + _FORCED_S
    while sweep.counts().get(TrialState.RUNNING) and time.monotonic() < deadline:
        time.sleep(0.5)  # its workers hear of it at their next epoch
    return removal.remove(client, sweep, keep_best=keep_best).to_json()


def _told(document: dict[str, Any]) -> str:
    text = f"removed {document['name']} ({document['sweep']}): {wording.size(document['bytes'])}"
    return text if document["left"] is None else f"{text}; its files stay: {document['left']}"


def _collected(document: dict[str, Any]) -> str:
    if document["left"] is not None:
        return f"no file was deleted: {document['left']}"
    parts = [wording.count(document[kind], kind[:-1]) for kind in ("artifacts", "bundles", "sweeps")]
    text = f"deleted {parts[0]}, {parts[1]} and {parts[2]} not on record"
    if document["unknown"]:
        text += f"; {wording.count(document['unknown'], 'sweep')} not on record kept (--unknown deletes them)"
    size = document.get("home_bytes")
    return text if size is None else f"{text}; the home folder takes {wording.size(size)}"


db = group("db", SET_UP, "Show the version of the store's tables, and upgrade them.")


@command(SET_UP, "kerasweep db status", "kerasweep db status -o json", parent=db)
def status_(client: Client, output: Output = OutputFormat.TABLE) -> None:
    """Show the version of the store's tables, and the one that this kerasweep needs."""
    document = client.store_version()
    emit(document, output, lambda: tables.facts_of(document))


@command(SET_UP, "kerasweep db upgrade", "kerasweep db upgrade --store sqlite:///old.db", parent=db)
def upgrade(client: Client, output: Output = OutputFormat.TABLE) -> None:
    """Upgrade a store of an earlier kerasweep, with everything in it.

    The upgrade is applied completely or not at all. A SQLite file is copied first, and the copy is kept; dump
    a PostgreSQL database first (pg_dump). Afterwards restart the workers and schedulers of the earlier
    version.
    """
    document = client.upgrade_store()
    emit(document, output, lambda: tables.literal(_upgraded(document)))


@command(SET_UP, "kerasweep db adopt", "kerasweep db adopt --yes", parent=db)
def adopt(client: Client, yes: Yes = False) -> None:
    """Make this store the one that may delete its artifacts.

    Schedulers delete only what their own store made, so a copy of a store deletes nothing. Use this after
    restoring a backup or moving a store, when the other one is no longer in use.
    """
    doubt = client.ownership.doubt()
    if doubt is None:
        say("this store may already delete its artifacts")
        return
    say(f"until now: {doubt.partition(';')[0]}")
    confirm("Is the other store, if any, no longer in use?", yes)
    client.ownership.adopt()
    say("this store may now delete its artifacts")


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        InputError: nobody can be asked, or the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("this must be confirmed, and there is no terminal to ask on; add --yes")
    if not typer.confirm(question, err=True):
        raise InputError("nothing was changed")


def _upgraded(document: dict[str, Any]) -> str:
    if document["before"] == document["after"]:
        return f"the store is up to date: version {document['after']}"
    kept = f"; the store as it was is kept in {document['backup']}" if document["backup"] else ""
    return f"the store is now of version {document['after']}, it was of version {document['before']}{kept}"

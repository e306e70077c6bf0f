"""What the Tab key offers: names of sweeps and of the gallery's entries. It must never fail."""

from __future__ import annotations

from typing import Any

import typer

from kerasweep.jobs.errors import KerasweepError


def sweeps(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names of sweeps that begin so, and ids where the word begins none."""
    from kerasweep.scheduler.client.client import Client

    given: dict[str, Any] = ctx.params
    try:
        with Client(store_url=given.get("store"), home=given.get("home"), reach_s=1.0) as client:
            found = [one.record for one in client.sweeps()]
    except KerasweepError:
        return []
    named = {one.name: f"{one.id}, {one.state}" for one in reversed(found) if one.name.startswith(incomplete)}
    return list(named.items()) or [(one.id, one.name) for one in found if one.id.startswith(incomplete)]


def gallery(incomplete: str) -> list[tuple[str, str]]:
    """Return the gallery's entries whose names begin so."""
    from kerasweep.jobs.gallery_index import list_gallery

    return [(one.name, one.description) for one in list_gallery() if one.name.startswith(incomplete)]

"""Tab completion of sweep names and gallery entries. It must never fail."""

from __future__ import annotations

from typing import Any

import typer

from kerasweep.jobs.errors import KerasweepError


def sweeps(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the sweep names that match, or ids if no name does."""
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
    """Return the matching gallery entries."""
    from kerasweep.jobs.gallery_index import list_gallery

    return [(one.name, one.description) for one in list_gallery() if one.name.startswith(incomplete)]

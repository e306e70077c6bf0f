"""Tables of what is compared: variants under several seeds, and two sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasweep.scheduler.client import wording
from kerasweep.scheduler.show.tables import columns, literal, state, varied

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kerasweep.scheduler.evidence.comparison import Comparison


def variants(documents: Sequence[Mapping[str, Any]], metric: str) -> RenderableType:
    """Return the list of variants: a column for each parameter that varies, the mean and the spread."""
    names = wording.short_names(varied(documents, _params_of(documents)))
    table = columns(
        ">variant", "state", *names.values(), f">{metric}, mean", ">std", ">lowest", ">highest", ">trials"
    )
    for one in documents:
        values = [wording.value(one["params"][name]) if name in one["params"] else "" for name in names]
        known = [float(value) for value in one["values"] if value is not None]
        ends = [wording.metric(found(known, default=None)) for found in (min, max)]
        figures = [wording.metric(one["value"]), wording.deviation(one["std"]), *ends]
        trials = f"{one['trials'][0]}–{one['trials'][-1]}"
        table.add_row(str(one["variant"]), state(one["state"]), *map(literal, [*values, *figures, trials]))
    return table


def certificate(document: Mapping[str, Any]) -> RenderableType:
    """Return the variants that were trained again, and what they say about the winner."""
    from rich.console import Group
    from rich.text import Text

    metric, variants = document["metric"]["name"], document["variants"]
    names = wording.short_names(varied(variants, _params_of(variants)))
    table = columns(
        ">trial", *names.values(), f">{metric}", ">again, mean", ">std", ">seeds", ">best with probability"
    )
    for one in variants:
        values = [wording.value(one["params"][name]) if name in one["params"] else "" for name in names]
        known = sum(value is not None for value in one["values"])
        seeds = str(known) if known == len(one["values"]) else f"{known} of {len(one['values'])}"
        std = wording.deviation(one["std"])
        figures = [
            wording.metric(one["value"]),
            wording.metric(one["mean"]),
            std,
            seeds,
            wording.share(one["probability"], document["paired"]),
        ]
        table.add_row(str(one["trial"]), *map(literal, [*values, *figures]))
    style = {True: "green", False: "red", None: "yellow"}[document["stands"]]
    notes = [Text(f"note: {note}", "dim") for note in document["notes"]]
    return Group(table, Text(), Text(document["verdict"], style), *notes)


def comparison(shown: Comparison) -> RenderableType:
    """Return two sweeps side by side, and what differs in their files."""
    from rich.console import Group
    from rich.text import Text

    titles = [f"{one.name} (better)" if one.sweep == shown.better else one.name for one in shown.sweeps]
    found = columns("", *titles)
    for row in shown.rows():
        found.add_row(*map(literal, row))
    parts: list[RenderableType] = [found, Text()]
    if shown.note:
        parts += [Text(shown.note, "yellow"), Text()]
    if not shown.differences:
        return Group(*parts, Text("The sweep files and the code are the same."))
    files = columns("in the files", *(one.name for one in shown.sweeps))
    for one in shown.differences:
        files.add_row(one.key, *map(literal, one.texts()))
    return Group(*parts, files)


def _params_of(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for one in documents for name in one["params"]))

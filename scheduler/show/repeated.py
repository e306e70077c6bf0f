"""Tables of what is compared: variants under several seeds, and two sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kerasweep.scheduler.client import wording
from kerasweep.scheduler.show.tables import Fitting, columns, kept, literal, state, varied

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kerasweep.scheduler.evidence.comparison import Comparison

    _Row = tuple[list[RenderableType], Mapping[str, Any], list[str]]

#: The width of all parameters in one column, where they do not fit into one each.
_TOGETHER_CHARS = (48, 36, 24)


def variants(documents: Sequence[Mapping[str, Any]], metric: str) -> RenderableType:
    """Return the list of variants: a column for each parameter that varies, the mean and the spread."""
    head, tail = [">variant", "state"], [f">{metric}, mean", ">std", ">lowest", ">highest", ">trials"]
    rows: list[_Row] = []
    for one in documents:
        known = [float(value) for value in one["values"] if value is not None]
        ends = [wording.metric(found(known, default=None)) for found in (min, max)]
        figures = [wording.metric(one["value"]), wording.deviation(one["std"]), *ends]
        trials = f"{one['trials'][0]}–{one['trials'][-1]}"
        rows.append(([str(one["variant"]), state(one["state"])], one["params"], [*figures, trials]))
    return _fitted(head, rows, tail, [f">{metric},\nmean", *tail[1:]], fewest=2)


def certificate(document: Mapping[str, Any]) -> RenderableType:
    """Return the variants that were trained again, and what they say about the winner."""
    from rich.console import Group
    from rich.text import Text

    metric = document["metric"]["name"]
    rows: list[_Row] = []
    for one in document["variants"]:
        known = sum(value is not None for value in one["values"])
        seeds = str(known) if known == len(one["values"]) else f"{known} of {len(one['values'])}"
        again = [wording.metric(one["mean"]), wording.deviation(one["std"]), seeds]
        chance = wording.share(one["probability"], document["paired"])
        rows.append(([str(one["trial"])], one["params"], [wording.metric(one["value"]), *again, chance]))
    tail = [f">{metric}", ">again, mean", ">std", ">seeds", ">best with probability"]
    short = [f">{metric}", ">again,\nmean", ">std", ">seeds", ">best with\nprobability"]
    table = _fitted([">trial"], rows, tail, short, fewest=len(tail))
    style = {True: "green", False: "red", None: "yellow"}[document["stands"]]
    notes = [Text(f"note: {note}", "dim") for note in document["notes"]]
    return Group(table, Text(), Text(document["verdict"], style), *notes)


def _fitted(
    head: Sequence[str], rows: Sequence[_Row], tail: Sequence[str], short: Sequence[str], fewest: int
) -> RenderableType:
    """Return a table that gives up its parameters before it cuts a figure.

    Args:
        head: the titles before the parameters.
        rows: for each, its first cells, its parameters and its figures.
        tail: the titles of the figures.
        short: the same on a narrow terminal.
        fewest: how many of the figures the narrowest terminal has.
    """
    documents = [{"params": params} for _, params, _ in rows]
    names = wording.short_names(varied(documents, _params_of(documents)))
    wide = columns(*head, *names.values(), *tail)
    together = [columns(*head, "parameters", *short) for _ in _TOGETHER_CHARS]
    bare = [columns(*head, *short), columns(*head, *short[:fewest])]
    for first, params, figures in rows:
        values = [wording.value(params[name]) if name in params else "" for name in names]
        wide.add_row(*first, *map(literal, [*values, *figures]))
        told = wording.params({name: params[name] for name in names if name in params})
        for table in together:
            table.add_row(*first, *map(literal, [told, *figures]))
        for table, count in zip(bare, (len(figures), fewest), strict=True):
            table.add_row(*first, *map(literal, figures[:count]))
    for table, chars in zip(together, _TOGETHER_CHARS, strict=True):
        kept(table, len(head)).columns[len(head)].max_width = chars
    return Fitting(wide, *together, *map(kept, bare))


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

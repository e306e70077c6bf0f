"""The winner as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kerasweep.scheduler.client import wording
from kerasweep.scheduler.show import tables

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def best(document: Mapping[str, Any], metric: str) -> RenderableType:
    """Return the winner."""
    from rich.text import Text

    facts = tables.pairs()
    facts.add_row("sweep", Text.assemble((document["name"], "bold"), "  ", (document["sweep"], "dim")))
    facts.add_row("trial", str(document["trial"]))
    facts.add_row(
        metric, f"{wording.metric(document['value'])} at epoch {tables.or_nothing(document['epoch'])}"
    )
    if "variant" in document:
        trials = f"trials {document['variant']['trials'][0]} to {document['variant']['trials'][-1]}"
        facts.add_row("", f"{tables.reached_by(document)} ({trials})")
    names = wording.short_names(document["params"])
    for name, given in document["params"].items():
        facts.add_row(names[name], tables.literal(wording.value(given)))
    rest = {name: one for name, one in document["metrics"].items() if name != metric}
    for label, line in zip(["metrics", *[""] * len(rest)], _metric_lines(rest), strict=False):
        facts.add_row(label, tables.literal(line))
    return _with_model(facts, document["model"])


def _metric_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield metrics in columns; the learning rate is the schedule's, not the parameter of that name."""
    width = max(map(len, metrics), default=0)
    for name, one in metrics.items():
        note = " (as scheduled)" if name == "learning_rate" else ""
        yield f"{name:{width}}  {wording.metric(one)}{note}"


def _with_model(facts: Table, model: Mapping[str, Any] | None) -> RenderableType:
    """Return the facts and the model's location, in one line whatever the width, so that it can be copied."""
    from rich.console import Group
    from rich.text import Text

    if not model:
        return facts
    width = max(len(str(cell)) for cell in [*facts.columns[0].cells, "model"])
    where = f"  {model['uri']} ({wording.size(model['bytes'])})"
    text = Text.assemble((f"{'model':{width}}", "dim"), where, no_wrap=True, overflow="ignore")
    return Group(facts, text)

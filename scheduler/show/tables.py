"""The documents of `report` as tables for people. Rich is imported only when a table is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kerasweep.scheduler.client import wording
from kerasweep.scheduler.show import curves

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

#: Colours repeat what the words already say.
STYLES = {
    "completed": "green",
    "stopped": "green",
    "running": "cyan",
    "queued": "dim",
    "paused": "yellow",
    "waiting": "cyan",
    "failed": "red",
    "cancelled": "dim",
    "ok": "green",
    "note": "yellow",
    "out of reach": "red",
}
_ENDED = ("completed", "stopped", "failed", "cancelled")
_BAR_CHARS = 24
_UNBOUNDED_CHARS = 10_000
_PARAMETERS_CHARS, _NAME_CHARS, _TITLE_CHARS = 24, 32, 12
#: The columns of the list of sweeps, and those that a narrow terminal lacks, from the first on.
_LISTED, _GIVEN_UP = (
    ("name", "sweep", "state", ">trials", "metric", ">best", ">age"),
    ("metric", ">age", ">trials"),
)
_CURVE_CHARS, _CURVE_LINES = 32, 6
_NO_METRIC = ("epoch", "seconds", "attempt")


def sweeps(documents: Sequence[Mapping[str, Any]], now: float) -> RenderableType:
    """Return the list of sweeps, from their status documents; a narrow terminal lacks whole columns."""
    rows: list[list[RenderableType]] = []
    for one in documents:
        age_s = now - datetime.fromisoformat(one["created_at"]).timestamp()
        best = one["best"] or {"value": None}
        trials = f"{done(one['trials'])}/{one['max_trials']}"
        value = wording.metric((best.get("variant") or best)["value"])
        told = [one["name"], one["sweep"], state(one["state"]), trials, one["metric"]["name"], value]
        rows.append([*told, wording.duration(age_s)])
    forms = []
    for count in range(len(_GIVEN_UP) + 1):
        places = [place for place, title in enumerate(_LISTED) if title not in _GIVEN_UP[:count]]
        form = columns(*(_LISTED[place] for place in places))
        for row in rows:
            form.add_row(*(row[place] for place in places))
        if count:
            kept(form, 0).columns[0].max_width = _NAME_CHARS
        forms.append(form)
    return Fitting(*forms)


def status(document: Mapping[str, Any]) -> RenderableType:
    """Return the status of one sweep."""
    from rich.text import Text

    facts = pairs()
    head = Text.assemble(
        (document["name"], "bold"), "  ", (document["sweep"], "dim"), "  ", state(document["state"])
    )
    if document["state"] == "completed" and document["trials"]["failed"]:
        head.append(f", {document['trials']['failed']} failed", STYLES["failed"])
    facts.add_row("sweep", head)
    facts.add_row("trials", _progress(document))
    best = document["best"]
    if best:
        reached = reached_by(best)
        among = "" if document["state"] in _ENDED else " · of those that ended"
        told = f"{document['metric']['name']} {reached} · trial {best['trial']} · epoch {best['epoch']}"
        facts.add_row("best", told + among)
        facts.add_row("", wording.params(best["params"]))
    left = f", about {wording.duration(document['eta_s'])} left" if document.get("eta_s") is not None else ""
    facts.add_row("elapsed", wording.duration(document["elapsed_s"] or None) + left)
    if document["message"]:
        facts.add_row("message", Text(document["message"], "red" if document["state"] == "failed" else ""))
    failures = document.get("failures", ())
    for number, line in enumerate(_failed_lines(failures, document["message"])):
        facts.add_row("" if number else "failed", Text(line, "red", no_wrap=True, overflow="ellipsis"))
    if document["trials"]["failed"] > len(failures):
        facts.add_row("", Text(f"and {document['trials']['failed'] - len(failures)} more", "red"))
    if document["waiting"]:
        facts.add_row("waiting", Text(document["waiting"], "yellow"))
    for trouble in document.get("troubles", ()):
        facts.add_row("trouble", Text(trouble, "yellow"))
    return facts


def _failed_lines(failures: Sequence[Mapping[str, Any]], told: str | None) -> Iterator[str]:
    """Yield each reason once, with its trials; one that the sweep's message tells is not repeated."""
    alike: dict[tuple[str, str], list[int]] = {}
    for one in failures:
        alike.setdefault((one["class"], one["message"]), []).append(one["trial"])
    for (cls, message), trials in alike.items():
        reason = "as the message says" if message == told else _first_line(message)
        yield f"{wording.numbered('trial', trials)}  {cls}: {reason}"


def reached_by(best: Mapping[str, Any]) -> str:
    """Return the value of the best trial in words, or the mean and spread of its variant."""
    variant = best.get("variant")
    if variant is None:
        return wording.metric(best["value"])
    return wording.spread(variant["value"], variant["std"], len(variant["trials"]))


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def workers(documents: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the list of live workers."""
    table = columns("worker", "state", ">trainers", ">slots", "queues", ">seen", "why")
    for one in documents:
        table.add_row(
            one["worker"],
            "set aside" if one["set_aside"] else "takes trials",
            or_nothing(one.get("trainers")),
            or_nothing(one.get("slots")),
            ", ".join(map(str, one.get("queues", ()))),
            wording.duration(one["seen_s"]),
            literal(one["set_aside"] or ""),
        )
    return table


class Fitting:
    """A table in the first of its layouts that fits the terminal, or in the last; the widest comes first."""

    def __init__(self, *forms: Table) -> None:
        self._forms = forms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = options.update(width=_UNBOUNDED_CHARS)
        for form in self._forms[:-1]:
            if console.measure(form, options=unbounded).maximum <= options.max_width:
                yield form
                return
        yield self._forms[-1]


def kept(table: Table, *giving: int) -> Table:
    """Keep a filled table's cells whole on a narrow terminal, except in the columns that give way.

    Args:
        table: the table.
        giving: the places of the columns whose cells may take more lines.
    """
    from rich.cells import cell_len

    for place, column in enumerate(table.columns):
        if place in giving:
            column.overflow = "fold"
        else:
            column.no_wrap = True
            column.min_width = max((cell_len(str(cell)) for cell in column.cells), default=0)
            most, lines = max(column.min_width, _TITLE_CHARS), str(column.header).splitlines()
            column.header = "\n".join(
                line[at : at + most] for line in lines for at in range(0, len(line), most)
            )
    return table


def trials(
    documents: Sequence[Mapping[str, Any]], metric: str, parameters: Iterable[str] = ()
) -> RenderableType:
    """Return the list of trials: a column for each parameter, or one for all if those do not fit.

    Args:
        documents: the trials' documents.
        metric: the sweep's metric.
        parameters: their order; unlisted ones come last.
    """
    given = dict.fromkeys(name for one in documents for name in one["params"])
    names = wording.short_names([*(name for name in parameters if name in given), *given])
    swept = list(names.values())
    tail = ["failure"] if any(one["failure"] for one in documents) else []
    wide = columns(">trial", "state", *swept, f">{metric}", ">best epoch", ">epochs", ">attempts", *tail)
    narrow = columns(">trial", "state", "parameters", f">{metric}", ">epoch", *tail)
    narrow.columns[2].min_width = _PARAMETERS_CHARS // 2 if tail else _PARAMETERS_CHARS
    differ = varied(documents, list(names))
    for one in documents:
        values = [wording.value(one["params"][name]) if name in one["params"] else "" for name in names]
        head: list[RenderableType] = [str(one["trial"]), state(one["state"])]
        value, best_epoch, epochs = (
            wording.metric(one["value"]),
            or_nothing(one["best_epoch"]),
            str(one["epochs"]),
        )
        failure = one["failure"]
        story = [f"{failure['class']}: {failure['message']}" if failure else ""] if tail else []
        wide.add_row(*head, *map(literal, [*values, value, best_epoch, epochs, str(one["attempts"]), *story]))
        ordered = {name: one["params"][name] for name in differ if name in one["params"]}
        told = [wording.params(ordered), value, f"{best_epoch}/{epochs}"]
        narrow.add_row(*head, *map(literal, [*told, *story]))
    return Fitting(wide, kept(narrow, 2, *([5] if tail else [])))


def without_waits(document: Mapping[str, Any], waits: Mapping[int, int]) -> dict[str, Any]:
    """Return a trial's document in which going on after a wait at a rung is no further attempt."""
    return {**document, "attempts": document["attempts"] - waits.get(document["trial"], 0)}


def varied(documents: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Sequence[str]:
    """Return the parameters that differ between trials, or all if none does."""
    nothing = object()
    seen = {name: {repr(one["params"].get(name, nothing)) for one in documents} for name in names}
    return [name for name in names if len(seen[name]) > 1] or names


def trial(document: Mapping[str, Any], metric: str, unseen: str, logs: str = "") -> RenderableType:
    """Return everything known about one trial: parameters, curves, layers.

    Args:
        document: a trial's document with `curves` and `model`.
        metric: the sweep's metric.
        unseen: why the layers are missing, if they are.
        logs: what shows the output of a failed trial.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_trial_facts(document, metric, logs), Text()]
    if document["curves"]:
        parts += [_curves(document["curves"]), Text()]
    if document["model"]:
        parts.append(_layers(document["model"]))
    elif unseen:
        parts.append(Text(f"The layers are not shown: {unseen}", "dim"))
    return Group(*parts)


def evaluation(document: Mapping[str, Any]) -> RenderableType:
    """Return evaluated metrics beside those recorded in training."""
    table = columns("metric", f">{document['data']} now", ">recorded validation", ">recorded training")
    recorded = document["recorded"]
    for name, measured in document["metrics"].items():
        seen = [wording.metric(recorded.get(prefix + name)) for prefix in ("val_", "")]
        table.add_row(name, wording.metric(measured), *seen)
    return table


def rows(documents: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return any list of documents, with all their keys as columns, numbers shortened."""
    names = list(dict.fromkeys(name for one in documents for name in one))
    table = columns(*(f">{name}" for name in names))
    for one in documents:
        table.add_row(*(literal(wording.value(one.get(name))) for name in names))
    return table


def _trial_facts(document: Mapping[str, Any], metric: str, logs: str) -> Table:
    from rich.text import Text

    facts = pairs()
    facts.add_row("trial", Text.assemble((str(document["trial"]), "bold"), "  ", state(document["state"])))
    names = wording.short_names(document["params"])
    for name, given in document["params"].items():
        facts.add_row(names[name], literal(wording.value(given)))
    if document["value"] is not None:
        reached = f"{wording.metric(document['value'])} at epoch {or_nothing(document['best_epoch'])}"
        facts.add_row(metric, reached)
    facts.add_row("epochs", f"{document['epochs']} in {wording.count(document['attempts'], 'attempt')}")
    facts.add_row("seed", str(document["seed"]))
    if document["failure"]:
        failure = document["failure"]
        facts.add_row("failure", Text(f"{failure['class']}: {failure['message']}", "red"))
        facts.add_row("", literal(logs))
    return facts


def _curves(epochs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return a drawing for each metric, training to the left of validation, both on one scale."""
    from rich.table import Table
    from rich.text import Text

    points = [
        (one["epoch"], {key: float(x) for key, x in one.items() if key not in _NO_METRIC}) for one in epochs
    ]
    found = curves.curves_of(points)
    grid = Table.grid(padding=(0, 4, 1, 0))
    for pair in curves.pair_up(list(found)):
        bounds = curves.spread([found[name] for name in pair])
        drawn = [curves.draw(found[name], _CURVE_CHARS, _CURVE_LINES, bounds) for name in pair]
        grid.add_row(*(Text("\n".join([name, *lines])) for name, lines in zip(pair, drawn, strict=True)))
    return grid


def _layers(model: Mapping[str, Any]) -> RenderableType:
    table = columns("layer", "class", "output shape", ">parameters")
    for one in model["layers"]:
        shape = "" if one["output_shape"] is None else str(one["output_shape"]).replace("None", "·")
        name = "  " * one["depth"] + one["name"]
        table.add_row(literal(name), one["class"], literal(shape), f"{one['parameters']:,}")
    frozen = model["parameters"] - model["trainable_parameters"]
    total = f"{model['parameters']:,}" + (f" ({frozen:,} frozen)" if frozen else "")
    table.add_row("", "", state("in all"), total)
    return table


def journal(documents: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Return journal entries with their reasons."""
    table = columns("at", ">trial", ">attempt", "event", "reason")
    for one in documents:
        at = datetime.fromisoformat(one["at"]).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(
            at, or_nothing(one["trial"]), or_nothing(one["attempt"]), one["event"], literal(one["reason"])
        )
    return table


def listing(documents: Sequence[Mapping[str, Any]], *names: str) -> RenderableType:
    """Return any list of documents, with a column for each of these keys."""
    table = columns(*names)
    for one in documents:
        cells = [one.get(name.removeprefix(">")) for name in names]
        table.add_row(*[state(cell) if cell in STYLES else literal(or_nothing(cell)) for cell in cells])
    return table


def facts_of(document: Mapping[str, Any]) -> RenderableType:
    """Return any document, one line per key."""
    table = pairs()
    for name, given in document.items():
        table.add_row(name, literal(wording.value(given) if not isinstance(given, str) else given))
    return table


def columns(*titles: str) -> Table:
    """Return an empty table; a title that starts with `>` is right-aligned."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title.removeprefix(">"), justify="right" if title.startswith(">") else "left")
    return table


def pairs() -> Table:
    """Return an empty table of names and values."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")  # a value must be complete, so that it can be copied
    return table


def state(name: str) -> Text:
    """Return a state in its colour."""
    from rich.text import Text

    return Text(name, STYLES.get(name, ""))


def done(counts: Mapping[str, int]) -> int:
    """Return the number of trials that have ended."""
    return sum(counts[name] for name in _ENDED)


def _progress(document: Mapping[str, Any]) -> Text:
    from rich.text import Text

    counts, total = document["trials"], document["max_trials"]
    ended = done(counts)
    bar = wording.bar(ended / total if total else 0.0, _BAR_CHARS)
    parts = [
        (f"{number} {name}", STYLES[name])
        for name, number in counts.items()
        if number and name != "completed"
    ]
    tail = [piece for part in parts for piece in ((" · ", "dim"), part)]
    return Text.assemble((bar, "green" if ended >= total else "cyan"), f"  {ended} of {total}", *tail)


def or_nothing(given: Any) -> str:
    """Return a value as text, or the mark for nothing if it is None."""
    return wording.NOTHING if given is None else str(given)


def literal(text: str) -> Text:
    """Return a text unchanged: it may contain brackets, which must not be parsed as markup."""
    from rich.text import Text

    return Text(text)

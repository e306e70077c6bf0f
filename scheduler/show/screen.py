"""The content of a sweep's live table, and its layout on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client import report, wording
from kerasweep.scheduler.show import tables

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Column, Table
    from rich.text import Text

    from kerasweep.jobs.store.models import TrialRecord
    from kerasweep.scheduler.client.sweep import Sweep

_BAR_CHARS, _EPOCH_BAR_CHARS = 32, 8
_WIDTH_FOR_NOW = 120
# The share of the rows for running trials if there are finished ones too.
_RUNNING_SHARE = 3 / 4
_SHORTEST_TITLE = 7
_NARROWEST_COLUMN, _FEWEST_COLUMNS_CHARS = 4, 40  # with the gap; of all that are no parameters


@dataclass(frozen=True)
class Row:
    """One trial in the table.

    Args:
        trial: the trial as recorded.
        planned: the number of epochs it may train, or None if unknown.
        now: the metric after the latest epoch.
        best: the metric at its best epoch so far.
        best_epoch: that epoch, from 1.
        phase: what it does before it trains, such as `compiling`; empty once it trains.
        again: whether an attempt before this one ended otherwise than at a rung.
    """

    trial: TrialRecord
    planned: int | None
    now: float | None
    best: float | None
    best_epoch: int | None
    phase: str = ""
    again: bool = False


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment: its status document, and the rows that fit; `left_out` counts the others.

    `varied` are the parameters that differ between trials, in the sweep file's order. `ahead` is a trial that
    has not ended and is better than the best that have.
    """

    status: Mapping[str, Any]
    rows: Sequence[Row]
    left_out: Mapping[str, int]
    varied: Sequence[str]
    ahead: Row | None = None


@dataclass(frozen=True)
class Layout:
    """The layout of the table.

    Args:
        bars: whether running trials have a progress bar.
        now: whether the latest value has a column.
        short: whether titles are cut to their values' width.
        together: whether the parameters share a column.
        most: how many parameters have a column; all if None.
    """

    bars: bool = False
    now: bool = True
    short: bool = False
    together: bool = False
    most: int | None = None


#: The widest first. In narrower ones the last parameters are left out; in the narrowest all share a column.
_LAYOUTS = (Layout(bars=True), Layout(), Layout(short=True), Layout(short=True, now=False))


def take(sweep: Sweep, rows: int, *, kept: bool = False) -> Snapshot:
    """Read what the table shows.

    Args:
        sweep: the sweep.
        rows: how many trials fit: the running ones first, then the best finished ones.
        kept: as for `Sweep.status`.
    """
    status = report.status_document(sweep.status(kept=kept))
    counts = status["trials"]
    running = sweep.trial_records([TrialState.RUNNING])
    best = sweep.client.records.best(sweep.record, rows)
    going = running[: max(1, int(rows * _RUNNING_SHARE)) if best else rows]
    ended = best[: rows - len(going)]
    phases, again = sweep.phases() if going else {}, _interrupted(sweep, going)
    shown = [_running_row(sweep, one, phases.get(one.number, ""), one.number in again) for one in going]
    shown += [_ended_row(sweep, one) for one in ended]
    left_out = {
        "running": counts["running"] - len(going),
        "ended": counts["completed"] + counts["stopped"] - len(ended),
        **{name: counts[name] for name in ("queued", "paused", "waiting", "failed", "cancelled")},
    }
    varied = tuple(sweep.spec.space().varied)
    return Snapshot(status, shown, left_out, varied, _ahead(sweep, status, shown))


def _ahead(sweep: Sweep, status: Mapping[str, Any], shown: Sequence[Row]) -> Row | None:
    """Return the best of the trials that run or wait at a rung, if it is better than all that have ended.

    With repeats there is none: variants are compared by the mean of all their trials.
    """
    if sweep.spec.times > 1 or sweep.record.state.final:
        return None
    rows = [row for row in shown if not row.trial.state.final]
    if status["trials"]["waiting"]:
        rows += [_ended_row(sweep, one) for one in sweep.trial_records([TrialState.WAITING])]
    sign = 1 if sweep.spec.metric.goal == "minimize" else -1
    usable = [(sign * row.best, row.trial.number, row) for row in rows if row.best is not None]
    least = min(usable, key=lambda one: one[:2], default=None)
    best = status["best"]
    if least is None or (best and sign * float(best["value"]) <= least[0]):
        return None
    return least[2]


def draw(snapshot: Snapshot, width: int) -> RenderableType:
    """Render a snapshot for a terminal of this many characters; lines that do not fit are cut."""
    from rich.console import Group
    from rich.text import Text

    status = snapshot.status
    parts: list[RenderableType] = [_head(status), _progress(snapshot, width), _best(snapshot, width)]
    if snapshot.rows:
        parts += [Text(), _table(snapshot, width)]
    rest = _rest(snapshot)
    if rest:
        parts.append(_line((f"and {rest}" if snapshot.rows else rest, "dim")))
    if status["waiting"]:
        parts.append(_line((status["waiting"], "yellow")))
    if status["message"]:
        parts.append(Text(status["message"], "red" if status["state"] == "failed" else "yellow"))
    return Group(*parts)


def _rest(snapshot: Snapshot) -> str:
    """Return in words which trials have no row: of a state that has rows, those are further ones."""
    shown = {"ended" if row.trial.state.final else "running" for row in snapshot.rows}
    left = [(number, name) for name, number in snapshot.left_out.items() if number > 0]
    told = {"running": "more that run", "ended": "more that ended"}
    return ", ".join(f"{number} {told[name] if name in shown else name}" for number, name in left)


def _all_begin(snapshot: Snapshot) -> bool:
    """Whether trials are running and none of the sweep has finished an epoch."""
    counts = snapshot.status["trials"]
    return (
        counts["running"] > 0
        and not tables.done(counts)
        and not any(row.trial.epochs for row in snapshot.rows)
    )


def _head(status: Mapping[str, Any]) -> Text:
    elapsed = wording.duration(status["elapsed_s"] or None)
    state = (status["state"], tables.STYLES.get(status["state"], ""))
    return _line(
        (status["name"], "bold"), "  ", (status["sweep"], "dim"), "  ", state, (" · ", "dim"), elapsed
    )


def _progress(snapshot: Snapshot, width: int) -> Text:
    counts, total = snapshot.status["trials"], snapshot.status["max_trials"]
    ended = tables.done(counts)
    bar = wording.bar(ended / total if total else 0.0, min(_BAR_CHARS, width // 4))
    parts = [
        (f"{counts[name]} {name}", tables.STYLES[name]) for name in ("running", "failed") if counts[name]
    ]
    again = sum(row.again for row in snapshot.rows)
    if again:
        parts.append((f"{again} in a later attempt", "yellow"))
    if snapshot.status["eta_s"] is not None:
        parts.append((f"about {wording.duration(snapshot.status['eta_s'])} left", "dim"))
    tail = [piece for part in parts for piece in ((" · ", "dim"), part)]
    return _line((bar, "green" if ended >= total else "cyan"), f"  {ended} of {total} trials", *tail)


def _best(snapshot: Snapshot, width: int) -> Text:
    status, best = snapshot.status, snapshot.status["best"]
    if row := snapshot.ahead:
        best = {
            "trial": row.trial.number,
            "value": row.best,
            "epoch": row.best_epoch,
            "params": row.trial.params,
        }
    if best is None and _all_begin(snapshot):
        return _line(("first epochs take longer: loading data, compiling", "dim"))
    if best is None:
        return _line(("no trial has ended with a value yet", "dim"))
    value = f"{status['metric']['name']} {tables.reached_by(best)}"
    so_far = f" ({snapshot.ahead.trial.state})" if snapshot.ahead else ""
    place = f"  trial {best['trial']}{so_far}, epoch {best['epoch']}  "
    names = [*(name for name in snapshot.varied if name in best["params"]), *best["params"]]
    params = {name: best["params"][name] for name in names}
    told = _whole(params, width - len("best " + value + place))
    return _line(("best ", "dim"), (value, "bold green"), (place + told, "dim"))


def _whole(params: Mapping[str, Any], width: int) -> str:
    """Return the first parameters, as many as fit into a width without being cut, in characters."""
    names = list(params)
    for count in range(len(names), 0, -1):
        rest = ", …" if count < len(names) else ""
        told = wording.params({name: params[name] for name in names[:count]}) + rest
        if len(told) <= width:
            return told
    return wording.params(params)


def _table(snapshot: Snapshot, width: int) -> RenderableType:
    """Return the rows in the widest layout that fits; values are left out before one is cut."""
    names = [name for name in snapshot.varied if any(name in row.trial.params for row in snapshot.rows)]
    most = min(len(names) - 1, (width - _FEWEST_COLUMNS_CHARS) // _NARROWEST_COLUMN)
    fewer = (Layout(short=True, now=False, most=count) for count in range(most, 0, -1))
    narrowest = Layout(together=True, now=width >= _WIDTH_FOR_NOW)
    return tables.Fitting(*(_lay_out(snapshot, names, one) for one in (*_LAYOUTS, *fewer, narrowest)))


def _lay_out(snapshot: Snapshot, names: Sequence[str], layout: Layout) -> Table:
    """Return the rows as a table, with these parameters."""
    metric = snapshot.status["metric"]["name"]
    figures = ["epoch", *([metric] if layout.now else []), "best", "at epoch"]
    table = tables.columns(">trial", "state")
    titles = list(wording.short_names(names).values())
    hidden = [] if layout.most is None else [f"+{len(names) - layout.most}"]
    for title in ["parameters"] if layout.together else [*titles[: layout.most], *hidden]:
        table.add_column(_line(title), overflow="ellipsis")
    for title in figures:
        table.add_column(title, justify="right")
    for column in (*table.columns[:2], *table.columns[-len(figures) :]):
        column.no_wrap = True
    winner = (snapshot.status["best"] or {}).get("trial")
    for row in snapshot.rows:
        trial = row.trial
        head: list[RenderableType] = [str(trial.number), tables.state(row.phase or str(trial.state))]
        swept = [*_swept(trial.params, names[: layout.most], layout.together), *("…" for _ in hidden)]
        cells = [*head, *swept, *_figures(row, layout)]
        table.add_row(*cells, style="bold" if trial.number == winner else "")
    if layout.short:
        _shorten(table.columns[2 : -len(figures) - len(hidden)])
    return table


def _shorten(columns: Sequence[Column]) -> None:
    """Cut titles to the width of their column's values: at their end, unless they look alike then."""
    for column in columns:
        column.max_width = max(_SHORTEST_TITLE, *(len(str(cell)) for cell in column.cells))
    titles = [str(column.header) for column in columns]
    cut = [title[: (column.max_width or 0) - 1] for title, column in zip(titles, columns, strict=True)]
    for title, begin, column in zip(titles, cut, columns, strict=True):
        if cut.count(begin) > 1 and len(title) > (width := column.max_width or 0):
            column.header = _line(f"…{title[1 - width :]}")


def _swept(params: Mapping[str, Any], names: Sequence[str], together: bool) -> list[RenderableType]:
    if together:
        return [_line(wording.params({name: params[name] for name in names if name in params}))]
    return [_line(wording.brief(params[name]) if name in params else "") for name in names]


def _figures(row: Row, layout: Layout) -> list[RenderableType]:
    newest: list[str] = ["" if row.trial.state.final else wording.metric(row.now)] if layout.now else []
    best_epoch = tables.or_nothing(row.best_epoch)
    return [_epochs(row, bars=layout.bars), *newest, wording.metric(row.best), best_epoch]


def _epochs(row: Row, *, bars: bool) -> Text:
    done, planned = row.trial.epochs, row.planned
    figure = f"{done:>{len(str(planned))}}/{planned}" if planned else str(done)
    if row.trial.state.final or not planned or not bars:
        return _line(figure)
    return _line((wording.bar(done / planned, _EPOCH_BAR_CHARS), "cyan"), " ", figure)


def _line(*parts: str | tuple[str, str]) -> Text:
    """Return one line of text, cut if it does not fit."""
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _running_row(sweep: Sweep, trial: TrialRecord, phase: str, again: bool) -> Row:
    found = sweep.client.records.epochs(sweep.id, trial.number).get(trial.number, [])
    # Epochs that an earlier attempt trained after its last checkpoint are trained again.
    epochs = [epoch for epoch in found if epoch.epoch <= trial.epochs]
    name, goal = sweep.spec.metric.name, sweep.spec.metric.goal
    values = [(epoch.metrics[name], epoch.epoch) for epoch in epochs if name in epoch.metrics]
    usable = [pair for pair in values if pair[0] == pair[0]]  # NaN is never the best
    best = min(usable, key=lambda pair: (pair[0] if goal == "minimize" else -pair[0], pair[1]), default=None)
    return Row(
        trial,
        sweep.planned_epochs(trial.params),
        values[-1][0] if values else None,
        best[0] if best else None,
        best[1] if best else None,
        phase=phase,
        again=again,
    )


def _interrupted(sweep: Sweep, running: Sequence[TrialRecord]) -> set[int]:
    """Return the trials of which an attempt ended otherwise than at a rung, where trials wait by design."""
    later = {trial.number for trial in running if trial.attempt > 1}
    attempts = sweep.client.records.attempts_at(sweep.id, later) if later else []
    return {one.trial for one in attempts if one.outcome and one.rung is None}


def _ended_row(sweep: Sweep, trial: TrialRecord) -> Row:
    return Row(trial, sweep.planned_epochs(trial.params), None, trial.value, trial.best_epoch)

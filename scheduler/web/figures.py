"""The content of the page's drawings, in SVG units."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import COUNTED
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show.scales import AxisScale

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import AttemptRecord
    from kerasweep.jobs.sweepfile.spec import Metric
    from kerasweep.scheduler.web.listing import Wanted

#: How many trials a drawing shows: the best, or for attempts the newest.
MOST_LINES, _MOST_POINTS, _MOST_BARS = 200, 300, 600
_MOST_AXES = 10
_FEWEST = 2


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates: its name, its title, its scale, and the selected range."""

    name: str
    title: str
    scale: AxisScale
    brush: tuple[float, float] | None = None


def parallel(
    trials: Sequence[Trial], names: Mapping[str, str], metric: Metric, wanted: Wanted
) -> dict[str, Any]:
    """Return parallel coordinates: an axis for each parameter and the value, a line for each trial.

    Args:
        trials: those in the requested states, best first; those outside the brush are faint.
        names: the parameters that vary, with their short names.
        metric: the sweep's metric.
        wanted: the query.
    """
    shown = some_of([one for one in trials if _has_value(one)], MOST_LINES)
    some = [name for name in names if all(name in one.params for one in shown)][: _MOST_AXES - 1]
    if len(shown) < _FEWEST or not some:
        return {"axes": [], "lines": []}
    scales = {name: AxisScale.of([one.params[name] for one in shown]) for name in some}
    scales["value"] = AxisScale.of([one.value for one in shown])
    titles = {**names, "value": metric.name}
    axes = [Axis(name, titles[name], scale, _brush(name, scale, wanted)) for name, scale in scales.items()]
    best = next((one.number for one in shown if wanted.brushed(one)), None)
    lines = [
        {
            "trial": one.number,
            "state": str(one.state),
            "best": one.number == best,
            "out": not wanted.brushed(one),
            "value": one.value,
            "at": [round(axis.scale.at(_at(one, axis.name)), 4) for axis in axes],
        }
        for one in shown
    ]
    return {"axes": axes, "lines": sorted(lines, key=lambda line: line["out"])}


def some_of(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return at most this many trials of a ranking: the best half of them, and others down to the worst."""
    if len(trials) <= most:
        return list(trials)
    head, rest = trials[: most // 2], trials[most // 2 :]
    places = most - len(head)
    return [*head, *(rest[round(n * (len(rest) - 1) / (places - 1))] for n in range(places))]


def _brush(name: str, scale: AxisScale, wanted: Wanted) -> tuple[float, float] | None:
    """Return the selected range of an axis, from 0 to 1."""
    for bound in wanted.within:
        if bound.name == name and not scale.labels:
            return scale.clipped(bound.low), scale.clipped(bound.high)
    return None


def slices(trials: Sequence[Trial], names: Mapping[str, str], metric: Metric) -> list[dict[str, Any]]:
    """Return for each parameter one point per trial: its value there, and its result."""
    shown = [one for one in trials if _has_value(one)]
    if len(shown) < _FEWEST:
        return []
    up = AxisScale.of([one.value for one in shown])
    return [
        _slice(some_of(shown, _MOST_POINTS), name, title, up)
        for name, title in list(names.items())[: _MOST_AXES - 1]
    ]


def _slice(trials: Sequence[Trial], name: str, title: str, up: AxisScale) -> dict[str, Any]:
    some = [one for one in trials if name in one.params]
    across = AxisScale.of([one.params[name] for one in some] or [0.0])
    points = [
        {
            "x": round(across.at(one.params[name]), 4),
            "y": round(1 - up.at(one.value), 4),
            "trial": one.number,
            "state": str(one.state),
            "told": f"trial {one.number}: {wording.brief(one.params[name])}, {wording.metric(one.value)}",
        }
        for one in some
    ]
    return {"name": name, "title": title, "x": across, "y": up, "points": points}


def timeline(sweep: Sweep, every: Sequence[AttemptRecord], shown: Container[int]) -> dict[str, Any]:
    """Return the timeline: a lane for each slot of a worker, with a bar for each attempt.

    Args:
        sweep: the sweep.
        every: the attempts at its trials.
        shown: the numbers of the trials shown.
    """
    some = (one for one in every if one.trial in shown)
    attempts = sorted(some, key=lambda one: one.started_at)[-_MOST_BARS:]
    if not attempts:
        return {"lanes": [], "start": 0.0, "span_s": 0.0}
    now = sweep.record.finished_at or time.time()
    start = attempts[0].started_at
    end = max(max(one.ended_at or now for one in attempts), start + 1e-3)
    lanes: dict[str, list[list[dict[str, Any]]]] = {}
    for one in attempts:
        until = one.ended_at or max(now, one.started_at)
        bar = {
            "trial": one.trial,
            "x": (one.started_at - start) / (end - start),
            "width": max(0.001, (until - one.started_at) / (end - start)),
            "until": until,
            "outcome": one.outcome or "running",
            "again": one.number > 1,
            "told": f"trial {one.trial}, attempt {one.number}: {one.outcome or 'running'}, "
            + wording.duration(until - one.started_at),
        }
        _put(lanes.setdefault(one.worker, []), bar, one.started_at)
    flat = [(worker, row) for worker, rows in sorted(lanes.items()) for row in rows]
    return {"lanes": flat, "start": start, "span_s": end - start}


def _put(rows: list[list[dict[str, Any]]], bar: dict[str, Any], started_at: float) -> None:
    for row in rows:
        if row[-1]["until"] <= started_at:
            row.append(bar)
            return
    rows.append([bar])


def importances(sweep: Sweep, shown: Container[int]) -> dict[str, Any]:
    """Return each parameter's share in explaining the value (PED-ANOVA), and the number of trials used.

    Args:
        sweep: the sweep.
        shown: the numbers of the trials to use.
    """
    trials = [one for one in sweep.trial_records() if one.state in COUNTED and one.number in shown]
    usable = [one for one in trials if one.value is not None and math.isfinite(one.value)]
    if len(usable) < 2 * _FEWEST:
        return {"trials": len(usable), "shares": []}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from kerasweep.scheduler.show.study import study_of

    try:
        found = get_param_importances(study_of(sweep.record, usable), evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError, ZeroDivisionError):  # too few values differ
        found = {}
    return {"trials": len(usable), "shares": sorted(found.items(), key=lambda pair: -pair[1])}


def _at(trial: Trial, name: str) -> Any:
    return trial.value if name == "value" else trial.params[name]


def _has_value(trial: Trial) -> bool:
    return trial.value is not None and math.isfinite(trial.value)

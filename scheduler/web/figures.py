"""What the page's drawings show, in the units of their SVG."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.trial import COUNTED
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep

if TYPE_CHECKING:
    from kerasweep.jobs.sweepfile.spec import Metric

#: How many trials a drawing shows: the best, or the newest of the attempts.
MOST_LINES, _MOST_POINTS, _MOST_BARS = 300, 800, 1500
_MOST_AXES = 10
_LOG_RATIO = 50.0
_FEWEST = 2


@dataclass(frozen=True)
class AxisScale:
    """An axis from 0 to 1: even, logarithmic, or a place for each of some labels.

    Args:
        low: the lowest value.
        high: the highest value.
        log: whether equal ratios are equally long.
        labels: the values in order, where they are no numbers or few.
    """

    low: float
    high: float
    log: bool = False
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Sequence[Any]) -> AxisScale:
        """Return a scale on which all of these values have a place."""
        numbers = [one for one in values if _is_number(one)]
        if len(numbers) < len(values) or not numbers:
            labels = tuple(sorted({wording.brief(one) for one in values}))
            return cls(0.0, max(1.0, len(labels) - 1.0), labels=labels)
        low, high = float(min(numbers)), float(max(numbers))
        if low == high:
            room = abs(low) / 10 or 0.5
            return cls(low - room, high + room)
        return cls(low, high, log=low > 0 and high / low >= _LOG_RATIO)

    def at(self, value: Any) -> float:
        """Return where a value lies, from 0 to 1."""
        if self.labels:
            return self.labels.index(wording.brief(value)) / self.high if len(self.labels) > 1 else 0.5
        low, high, given = (
            (math.log(one) for one in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        return float((given - low) / (high - low))

    def ticks(self) -> list[tuple[float, str]]:
        """Return where labels stand, and what they say."""
        if self.labels:
            return [
                (index / self.high if len(self.labels) > 1 else 0.5, one)
                for index, one in enumerate(self.labels)
            ]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [(self.at(one), f"{one:.3g}") for one in (self.low, middle, self.high)]


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates: what it is called, and its scale."""

    name: str
    title: str
    scale: AxisScale


def parallel(trials: Sequence[Trial], names: Mapping[str, str], metric: Metric) -> dict[str, Any]:
    """Return parallel coordinates: an axis for each parameter and the value, a line for each trial.

    Args:
        trials: the best that were asked for.
        names: the parameters that vary, with their short names.
        metric: what they are judged by.
    """
    shown = [one for one in trials if _has_value(one)]
    some = [name for name in names if all(name in one.params for one in shown)][: _MOST_AXES - 1]
    if len(shown) < _FEWEST or not some:
        return {"axes": [], "lines": []}
    axes = [Axis(name, names[name], AxisScale.of([one.params[name] for one in shown])) for name in some]
    axes.append(Axis("value", metric.name, AxisScale.of([one.value for one in shown])))
    lines = [
        {
            "trial": one.number,
            "state": str(one.state),
            "best": place == 0,
            "value": one.value,
            "at": [round(axis.scale.at(_at(one, axis.name)), 4) for axis in axes],
        }
        for place, one in enumerate(shown)
    ]
    return {"axes": axes, "lines": lines}


def slices(trials: Sequence[Trial], names: Mapping[str, str], metric: Metric) -> list[dict[str, Any]]:
    """Return for each parameter a point for each trial: its value there, and what it reached."""
    shown = [one for one in trials if _has_value(one)]
    if len(shown) < _FEWEST:
        return []
    step = max(1, len(shown) // _MOST_POINTS)
    up = AxisScale.of([one.value for one in shown])
    return [_slice(shown[::step], name, title, up) for name, title in list(names.items())[: _MOST_AXES - 1]]


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


def timeline(sweep: Sweep) -> dict[str, Any]:
    """Return what ran where: a lane for each slot of a worker, and in it a bar for each attempt."""
    attempts = sorted(sweep.client.records.attempts(sweep.id), key=lambda one: one.started_at)[-_MOST_BARS:]
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


def importances(sweep: Sweep) -> dict[str, Any]:
    """Return each parameter's share of what explains the value (PED-ANOVA), and of how many trials."""
    trials = [one for one in sweep.trial_records() if one.state in COUNTED]
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


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)

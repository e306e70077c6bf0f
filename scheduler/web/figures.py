"""The page's drawings of parameters and values: parallel coordinates, slices, importances.

What there are hundreds of is written as SVG here, since a template takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.show.scales import AxisScale

if TYPE_CHECKING:
    from kerasweep.jobs.sweepfile.spec import Metric
    from kerasweep.scheduler.web.listing import Wanted

#: How many trials a drawing shows, and importances rest on: the best, and others down to the worst.
MOST_LINES, _MOST_POINTS, _MOST_WEIGHED = 200, 300, 1_000
_MOST_AXES = 10
#: The width of a label's character.
_CHAR = 7
_FEWEST = 2


@dataclass(frozen=True)
class Axis:
    """An axis of parallel coordinates: its name, its title, its scale, and the selected range."""

    name: str
    title: str
    scale: AxisScale
    brush: tuple[float, float] | None = None


@dataclass(frozen=True)
class Parallel:
    """Parallel coordinates: an axis for each parameter and the value, a line for each trial.

    Args:
        axes: from left to right.
        count: the number of lines.
        lines: the lines as SVG.
    """

    axes: Sequence[Axis]
    count: int
    lines: Markup

    def left(self, index: int) -> float:
        """Return an axis's distance from the left edge."""
        return round(60 + 880 * index / (len(self.axes) - 1), 1)


@dataclass(frozen=True)
class Slice:
    """What each trial reached, by one parameter.

    Args:
        title: the parameter's short name.
        x: the parameter's scale.
        y: the value's scale.
        left: where the value's axis stands, with room for its labels.
        points: a point for each trial, as SVG.
    """

    title: str
    x: AxisScale
    y: AxisScale
    left: int
    points: Markup


def parallel(
    trials: Sequence[Trial], names: Mapping[str, str], metric: Metric, wanted: Wanted, base: str
) -> Parallel:
    """Return parallel coordinates.

    Args:
        trials: those in the requested states with a value, best first; those outside the brush are faint.
        names: the parameters that vary, with their short names.
        metric: the sweep's metric.
        wanted: the query.
        base: the sweep's path.
    """
    shown = some_of(trials, MOST_LINES)
    some = [name for name in names if all(name in one.params for one in shown)][: _MOST_AXES - 1]
    if len(shown) < _FEWEST or not some:
        return Parallel((), 0, Markup())
    scales = {name: AxisScale.of([one.params[name] for one in shown]) for name in some}
    scales["value"] = AxisScale.of([trials[0].value, trials[-1].value])
    titles = {**names, "value": metric.name}
    axes = [Axis(name, titles[name], scale, _brush(name, scale, wanted)) for name, scale in scales.items()]
    inside = [one for one in shown if wanted.brushed(one)]
    numbers, best = {one.number for one in inside}, inside[0].number if inside else None
    # What is drawn last lies on top: the best.
    faint = [_line(one, axes, base, " out") for one in shown if one.number not in numbers]
    clear = [_line(one, axes, base, " best" if one.number == best else "") for one in inside]
    return Parallel(axes, len(shown), svg([*faint, *clear[::-1]]))


def _line(trial: Trial, axes: Sequence[Axis], base: str, style: str) -> str:
    heights = [round(axis.scale.at(_at(trial, axis.name)), 4) for axis in axes]
    step = 880 / (len(axes) - 1)
    points = " ".join(f"{60 + step * n:.1f},{260 - 220 * at:.1f}" for n, at in enumerate(heights))
    return (
        f'<a class="{"faint" if style == " out" else ""}" href="{base}/trials/{trial.number}" tabindex="-1">'
        f'<polyline class="line {trial.state}{style}" data-at="{" ".join(map(str, heights))}" '
        f'points="{points}"><title>trial {trial.number}: {wording.metric(trial.value)}</title></polyline></a>'
    )


def some_of(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return at most this many trials of a ranking: the best half of them, and others down to the worst."""
    if len(trials) <= most:
        return list(trials)
    head = trials[: most // 2]
    return [*head, *evenly(trials[most // 2 :], most - len(head))]


def _brush(name: str, scale: AxisScale, wanted: Wanted) -> tuple[float, float] | None:
    """Return the selected range of an axis, from 0 to 1."""
    for bound in wanted.within:
        if bound.name == name and not scale.labels:
            return scale.clipped(bound.low), scale.clipped(bound.high)
    return None


def slices(trials: Sequence[Trial], names: Mapping[str, str], base: str) -> list[Slice]:
    """Return a slice for each parameter.

    Args:
        trials: those to show that have a value, best first.
        names: the parameters that vary, with their short names.
        base: the sweep's path.
    """
    if len(trials) < _FEWEST:
        return []
    up, some = AxisScale.of([trials[0].value, trials[-1].value]), some_of(trials, _MOST_POINTS)
    return [_slice(some, name, title, up, base) for name, title in list(names.items())[: _MOST_AXES - 1]]


def _slice(trials: Sequence[Trial], name: str, title: str, up: AxisScale, base: str) -> Slice:
    some = [one for one in trials if name in one.params]
    across = AxisScale.of([one.params[name] for one in some] or [0.0])
    left = max(44, 8 + _CHAR * max(len(label) for _, label in up.ticks()))
    points = [
        _point(
            one,
            left + 8 + (296 - left) * across.at(one.params[name]),
            168 - 156 * up.at(one.value),
            name,
            base,
        )
        for one in some
    ]
    return Slice(title, across, up, left, svg(points))


def _point(trial: Trial, x: float, y: float, name: str, base: str) -> str:
    told = escape(f"trial {trial.number}: {wording.brief(trial.params[name])}, {wording.metric(trial.value)}")
    if trial.state is TrialState.COMPLETED:
        shape, end = f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3.5">', "</circle>"
    else:
        shape = f'<rect class="point {trial.state}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6">'
        end = "</rect>"
    link = f'<a href="{base}/trials/{trial.number}" tabindex="-1">'
    return f"{link}{shape}<title>{told}</title>{end}</a>"


def importances(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return each parameter's share in explaining the value (PED-ANOVA), and the number of trials used.

    Args:
        sweep: the sweep.
        trials: those to compare, or variants in their place; of many, some from the best to the worst.
    """
    from kerasweep.scheduler.show.study import Comparable, shares_of

    rungs = sweep.client.records.rung_values(sweep.id) if sweep.spec.stopping else {}
    compared = Comparable.of(trials, rungs)
    every = sorted(compared.trials, key=lambda one: one.value or 0.0)
    usable = sorted(evenly(every, _MOST_WEIGHED), key=lambda one: one.number)
    shares = shares_of(sweep.record, usable) if len(usable) >= 2 * _FEWEST else {}
    return {
        "what": "trial" if sweep.spec.times == 1 else "variant",
        "used": len(usable),
        "of": len(every),
        "epoch": compared.epoch,
        "without": compared.without,
        "shares": list(shares.items()),
    }


def evenly(trials: Sequence[Trial], most: int) -> list[Trial]:
    """Return at most this many trials of a ranking, as far apart as possible, with the first and the last."""
    if len(trials) <= most:
        return list(trials)
    return [trials[round(n * (len(trials) - 1) / (most - 1))] for n in range(most)]


def _at(trial: Trial, name: str) -> Any:
    return trial.value if name == "value" else trial.params[name]


def svg(parts: Iterable[str]) -> Markup:
    """Return parts of a drawing for a template; texts in them must have been escaped."""
    return Markup("\n".join(parts))  # noqa: S704

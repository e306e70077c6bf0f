"""Draws curves over epochs with text characters, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kerasweep.scheduler.client import wording

# The dots of a Braille character, two by four, as bits of its code point: [line][column].
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BRAILLE = 0x2800
_BLANK = chr(_BRAILLE)
_VALIDATION = "val_"
#: From this ratio of the largest to the smallest value, curves are plotted on a logarithmic axis.
_DECADES = 20.0


@dataclass(frozen=True)
class Curve:
    """One metric over the epochs.

    Args:
        name: the metric's name.
        points: (epoch, value) in order; non-finite values are not drawn.
    """

    name: str
    points: Sequence[tuple[int, float]]

    @property
    def finite(self) -> list[tuple[int, float]]:
        """The points that can be drawn."""
        return [point for point in self.points if math.isfinite(point[1])]


def pair_up(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Group metrics that share a drawing: `loss` with `val_loss`, and so on."""
    heads = [name for name in names if not name.startswith(_VALIDATION)]
    pairs: list[tuple[str, ...]] = [
        (name, _VALIDATION + name) if _VALIDATION + name in names else (name,) for name in heads
    ]
    paired = {name for pair in pairs for name in pair}
    return pairs + [(name,) for name in names if name not in paired]


def draw(curve: Curve, width: int, height: int, bounds: tuple[float, float] | None = None) -> list[str]:
    """Return lines that show a curve, with its highest and lowest value on the left.

    Args:
        curve: what to draw.
        width: the width of the drawing, in characters, without the labels.
        height: its height, in lines.
        bounds: the values at the lower and upper edge; by default those of the curve.

    Returns:
        `height` lines, and one below them with the first and the last epoch.
    """
    points = curve.finite
    if not points:
        return [f"{curve.name}: no finite value"]
    low, high = bounds or spread([curve])
    cells = _cells(points, low, high, width, height)
    labels = {0: wording.metric(high), height - 1: wording.metric(low)}
    pad = max(len(label) for label in labels.values())
    lines = [
        f"{labels.get(row, ''):>{pad}} ┤{''.join(map(chr, cells[row])).replace(_BLANK, ' ')}"
        for row in range(height)
    ]
    first, last = str(points[0][0]), str(points[-1][0])
    return [*lines, f"{'':>{pad}}  {first}{last:>{max(1, width - len(first))}}"]


def spread(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the lowest and highest finite value of curves; never two equal values."""
    values = [value for curve in curves for _, value in curve.finite]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = abs(low) / 10 or 0.5
    return (low, high) if low < high else (low - room, high + room)


def span_decades(curves: Sequence[Curve]) -> bool:
    """Tell whether curves need a logarithmic axis: else all but the first epochs would be one flat line."""
    low, high = spread(curves)
    return low > 0 and high / low >= _DECADES


def curves_of(epochs: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, Curve]:
    """Return a curve for each metric, from (epoch, metrics) in order."""
    names = list(dict.fromkeys(name for _, metrics in epochs for name in metrics))
    return {
        name: Curve(name, [(epoch, metrics[name]) for epoch, metrics in epochs if name in metrics])
        for name in names
    }


def _cells(
    points: Sequence[tuple[int, float]], low: float, high: float, width: int, height: int
) -> list[list[int]]:
    """Return the drawing's characters as code points, [line][column]."""
    cells = [[_BRAILLE] * width for _ in range(height)]
    columns, rows = width * 2, height * 4
    previous = None
    for x in range(columns):
        share = (_at(points, x / max(1, columns - 1)) - low) / (high - low)
        y = round((1.0 - max(0.0, min(1.0, share))) * (rows - 1))
        # Steep stretches are filled in, so that the curve stays connected.
        for row in _between(previous, y):
            cells[row // 4][x // 2] |= _DOTS[row % 4][x % 2]
        previous = y
    return cells


def _between(start: int | None, end: int) -> range:
    if start is None or start == end:
        return range(end, end + 1)
    return range(start + 1, end + 1) if start < end else range(end, start)


def _at(points: Sequence[tuple[int, float]], share: float) -> float:
    """Return the value at a fraction of the span of epochs, interpolated linearly."""
    place = share * (len(points) - 1)
    index = min(int(place), len(points) - 2) if len(points) > 1 else 0
    if len(points) == 1:
        return points[0][1]
    (_, left), (_, right) = points[index], points[index + 1]
    return left + (right - left) * (place - index)

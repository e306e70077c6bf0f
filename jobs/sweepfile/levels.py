"""The listable values of a range: its steps, or a number of points on its scale.

Computed in decimal arithmetic, so that they are the numbers a person would write, on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import overload

_DIGITS = 40  # more than twice the digits of a float, so rounding gives exactly the intended number


class LevelRange(Sequence[float]):
    """min, min + q, … as a person would write them: 0.3, not 0.30000000000000004."""

    def __init__(self, low: float, high: float, q: float) -> None:
        self._low, self._q = Decimal(repr(low)), Decimal(repr(q))
        self._count = int((Decimal(repr(high)) - self._low) / self._q) + 1

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        picked = range(self._count)[index]
        return [self._at(k) for k in picked] if isinstance(picked, range) else self._at(picked)

    def _at(self, k: int) -> float:
        return float(self._low + k * self._q)


@lru_cache(maxsize=512)
def number_points(low: float, high: float, count: int, logarithmic: bool) -> tuple[float, ...]:
    """Return `count` numbers at equal distances on a scale, including both ends.

    Fewer if there are not enough floats between the ends.
    """
    inner = (float(point) for point in _between(low, high, count, logarithmic))
    return tuple(dict.fromkeys([low, *inner, high]))


@lru_cache(maxsize=512)
def whole_points(low: int, high: int, count: int, logarithmic: bool) -> tuple[int, ...]:
    """Return `count` different whole numbers, about equally spaced on a scale, including both ends.

    Args:
        low: the first.
        high: the last.
        count: at least 2, at most high - low + 1.
        logarithmic: whether the scale is.
    """
    points = [low]
    for point in _between(low, high, count, logarithmic):
        # Where the scale is denser than the whole numbers, take the next free one.
        points.append(max(round(point), points[-1] + 1))
    return (*points, high)


def _between(low: float, high: float, count: int, logarithmic: bool) -> list[Decimal]:
    """Return the points that lie strictly between the ends."""
    with localcontext() as context:
        context.prec = _DIGITS
        first, last = Decimal(repr(low)), Decimal(repr(high))
        if logarithmic:
            first, last = first.ln(), last.ln()
        scale = [first + index * (last - first) / (count - 1) for index in range(1, count - 1)]
        return [point.exp() for point in scale] if logarithmic else scale

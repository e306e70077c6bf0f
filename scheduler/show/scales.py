"""Axes of drawings: where a value lies, and what stands beside it in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kerasweep.scheduler.client import wording

_LOG_RATIO = 50.0
#: So many different values are marked on an axis, unless they lie closer to each other than this.
_FEWEST_CHOICES, _MOST_CHOICES, _CLOSEST = 3, 6, 0.07


def plain(number: float) -> str:
    """Return a number to four digits without an exponent: `0.0001`, `4`, `1,200,000`."""
    if number == 0 or not math.isfinite(number):
        return "0" if number == 0 else str(number)
    digits = max(0, 3 - math.floor(math.log10(abs(number))))
    text = f"{number:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class AxisScale:
    """An axis from 0 to 1: linear, logarithmic, or categorical.

    Args:
        low: the lowest value.
        high: the highest value.
        log: whether it is logarithmic.
        labels: the values in order, if they are not all numbers.
        choices: the values in order, if they are few numbers to choose from.
        whole: whether all values are integers.
    """

    low: float
    high: float
    log: bool = False
    labels: tuple[str, ...] = ()
    choices: tuple[float, ...] = ()
    whole: bool = False

    @classmethod
    def of(cls, values: Sequence[Any]) -> AxisScale:
        """Return a scale that covers all of these values; a few different numbers are marked themselves."""
        numbers = [one for one in values if _is_number(one)]
        if len(numbers) < len(values) or not numbers:
            labels = tuple(sorted({wording.brief(one) for one in values}))
            return cls(0.0, max(1.0, len(labels) - 1.0), labels=labels)
        low, high, whole = float(min(numbers)), float(max(numbers)), all(type(one) is int for one in numbers)
        if low == high:
            room = 1.0 if whole else abs(low) / 10 or 0.5
            return cls(low - room, high + room, whole=whole)
        different = sorted(set(map(float, numbers)))
        choices = tuple(different) if _FEWEST_CHOICES <= len(different) <= _MOST_CHOICES else ()
        return cls(low, high, low > 0 and high / low >= _LOG_RATIO, choices=choices, whole=whole)

    def at(self, value: Any) -> float:
        """Return the position of a value, from 0 to 1."""
        if self.labels:
            return self.labels.index(wording.brief(value)) / self.high if len(self.labels) > 1 else 0.5
        low, high, given = (
            (math.log(one) for one in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        return float((given - low) / (high - low))

    def clipped(self, value: float) -> float:
        """Return the position of a bound of any size, from 0 to 1."""
        return self.at(min(self.high, max(self.low, value)))

    def ticks(self) -> list[tuple[float, str]]:
        """Return the positions and texts of the labels."""
        if self.labels:
            return [
                (index / self.high if len(self.labels) > 1 else 0.5, one)
                for index, one in enumerate(self.labels)
            ]
        places = [self.at(one) for one in self.choices]
        if places and min(b - a for a, b in pairwise(places)) >= _CLOSEST:
            return [(at, plain(one)) for at, one in zip(places, self.choices, strict=True)]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        if self.whole:
            # The middle of 1 and 2 is neither of them.
            marks = sorted({self.low, float(math.floor(middle)), self.high})
            return [(self.at(one), plain(one)) for one in marks]
        return [(self.at(one), plain(float(f"{one:.3g}"))) for one in (self.low, middle, self.high)]


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)

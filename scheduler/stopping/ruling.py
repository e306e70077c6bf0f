"""The input and output of a stopping rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Track:
    """A variant's curve as a stopping rule sees it.

    Args:
        number: from 0.
        at: the best value so far at each rung that it has reached, by the rung's epoch.
        stands: the rung at which it waits, None if it does not.
        ended: whether it has finished.
        value: its final value if it ended by itself, None if it was stopped or has none.
    """

    number: int
    at: Mapping[int, float] = field(default_factory=dict)
    stands: int | None = None
    ended: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Ruling:
    """The decision on a variant that waits at a rung.

    Args:
        number: the variant's.
        rung: the epoch at which it waits.
        next_rung: the next epoch at which it will wait; None if it continues to its end, or not at all.
        goes_on: whether it continues.
        reason: for the journal.
    """

    number: int
    rung: int
    goes_on: bool
    next_rung: int | None
    reason: str


class StoppingRule(Protocol):
    """A rule: a pure function of curves, which sees neither the store nor the clock nor relative speed."""

    def rungs(self) -> Sequence[int]:
        """Return every epoch at which variants may wait."""
        ...

    def first_rung(self, number: int) -> int | None:
        """Return the first epoch at which a variant waits, None if it never does."""
        ...

    def base(self, number: int) -> int:
        """Return the lowest number whose curve is needed to decide on variants from `number` on."""
        ...

    def stop(self, number: int) -> int:
        """Return the number (exclusive) up to which curves are needed to decide on variant `number`."""
        ...

    def open_until(self, settled: int, planned: int) -> int:
        """Return the number (exclusive) up to which variants may start.

        Args:
            settled: the number of leading variants that have ended.
            planned: the maximum number of variants.
        """
        ...

    def awaited(self, curves: Mapping[int, Track], planned: int) -> list[int]:
        """Return the variants that must reach a rung, or end, before the waiting ones can be decided.

        Args:
            curves: by number, from `base` of the lowest unfinished one.
            planned: the maximum number of variants.
        """
        ...

    def learned(self, number: int) -> int | None:
        """Return how many of the first variants the sampler learns from for variant `number`; None if the
        sampler decides.
        """
        ...

    def decide(self, curves: Mapping[int, Track], planned: int) -> list[Ruling]:
        """Decide on the waiting variants, as far as that is possible now.

        Args:
            curves: by number, from `base` of the lowest unfinished one.
            planned: the maximum number of variants.
        """
        ...

"""What a stopping rule sees and decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Track:
    """A variant's curve as a stopping rule sees it.

    Args:
        number: from 0.
        at: the best value so far at each rung that it has reached, by the rung's epoch.
        stands: the rung at which it waits, None where it does not.
        ended: whether nothing more comes of it.
        value: what it ended with by itself, None where it was stopped or reached none.
    """

    number: int
    at: Mapping[int, float] = field(default_factory=dict)
    stands: int | None = None
    ended: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Ruling:
    """What is decided on a variant that stands at a rung.

    Args:
        number: the variant's.
        rung: the epoch at which it stands.
        next_rung: the next epoch at which it will stand; None: it goes on to its end, or not at all.
        goes_on: whether it trains on.
        reason: for the journal.
    """

    number: int
    rung: int
    goes_on: bool
    next_rung: int | None
    reason: str


class StoppingRule(Protocol):
    """A rule: a pure function of curves, which sees neither store nor clock nor who was faster."""

    def first_rung(self, number: int) -> int | None:
        """Return the first epoch at which a variant stands still, None where it never does."""
        ...

    def base(self, number: int) -> int:
        """Return the lowest number whose curve is needed to rule on variants from `number` on."""
        ...

    def open_until(self, settled: int, planned: int) -> int:
        """Return up to which number, exclusive, variants may begin.

        Args:
            settled: so many of the first have ended.
            planned: how many there will be at most.
        """
        ...

    def awaited(self, curves: Mapping[int, Track], planned: int) -> list[int]:
        """Return the variants that must reach a rung, or end, before those that wait can be ruled on.

        Args:
            curves: by number, from `base` of the lowest that has not ended.
            planned: how many variants there will be at most.
        """
        ...

    def learned(self, number: int) -> int | None:
        """Return from how many of the first variants variant `number` is drawn; None: the sampler says."""
        ...

    def decide(self, curves: Mapping[int, Track], planned: int) -> list[Ruling]:
        """Rule on those that stand at a rung, as far as it can be done now.

        Args:
            curves: by number, from `base` of the lowest that has not ended.
            planned: how many variants there will be at most.
        """
        ...

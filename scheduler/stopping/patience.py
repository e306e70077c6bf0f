"""Ends a sweep after a number of trials without improvement."""

from __future__ import annotations

from collections.abc import Sequence

from kerasweep.scheduler.stopping.halving import HalvingRule
from kerasweep.scheduler.stopping.ruling import StoppingRule

#: How many variants may be under way while the first of them decides whether the sweep ends.
UNDER_WAY_AT_ONCE = 8


class Restraint:
    """Ends the sweep after a number of variants without improvement; those under way are trained to their
    end.

    Which ones these are depends only on numbers: those that the rule, or the limit here, let start before the
    variant ended that used up the patience.

    Args:
        rule: the sweep's stopping rule, if it has one.
        patience: how many variants may pass without a better one; None for any number.
        maximize: whether larger values of the metric are better.
    """

    def __init__(self, rule: StoppingRule | None, patience: int | None, maximize: bool) -> None:
        self._rule, self.patience, self._maximize = rule, patience, maximize

    @property
    def bounds(self) -> bool:
        """Whether fewer variants than planned may be under way."""
        return isinstance(self._rule, HalvingRule) or self.patience is not None

    def open_until(self, settled: int, planned: int) -> int:
        """Return the number (exclusive) up to which variants may start; see `StoppingRule.open_until`."""
        if isinstance(self._rule, HalvingRule) or self.patience is None:
            return self._rule.open_until(settled, planned) if self._rule else planned
        return min(planned, settled + UNDER_WAY_AT_ONCE)

    def ends_at(self, values: Sequence[float | None], planned: int) -> int | None:
        """Return the number of variants of the sweep if the patience is used up, else None.

        Args:
            values: the final values of the first variants, by number, as far as they have ended.
            planned: the maximum number of variants.
        """
        if self.patience is None:
            return None
        spent = exhausted_at(values, self.patience, self._maximize)
        return None if spent is None else self.open_until(spent - 1, planned)


def exhausted_at(values: Sequence[float | None], patience: int, maximize: bool) -> int | None:
    """Return the number of variants after which `patience` of them brought no improvement; None if not yet.

    Args:
        values: the final values of the first variants, by number; None for one without a value.
        patience: how many may pass without a better one.
        maximize: whether larger values are better.
    """
    best: float | None = None
    since = 0
    for count, value in enumerate(values, start=1):
        signed = None if value is None else (-value if maximize else value)
        if signed is not None and (best is None or signed < best):
            best, since = signed, 0
        else:
            since += 1
        if since >= patience:
            return count
    return None

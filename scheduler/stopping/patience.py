"""Whether a sweep has got no better for so many trials that it ends."""

from __future__ import annotations

from collections.abc import Sequence

from kerasweep.scheduler.stopping.halving import HalvingRule
from kerasweep.scheduler.stopping.ruling import StoppingRule

#: So many variants may be under way while the first of them decides whether the sweep ends.
UNDER_WAY_AT_ONCE = 8


class Restraint:
    """Ends the sweep once nothing has got better for so many variants; those under way by then are trained.

    How many that are depends on the numbers alone: those that the rule, or the limit here, let begin before
    the variant ended that used up the patience.

    Args:
        rule: the sweep's stopping rule, if it has one.
        patience: how many variants may pass without a better one; None: any number.
        maximize: whether more of the metric is better.
    """

    def __init__(self, rule: StoppingRule | None, patience: int | None, maximize: bool) -> None:
        self._rule, self.patience, self._maximize = rule, patience, maximize

    def open_until(self, settled: int, planned: int) -> int:
        """Return up to which number, exclusive, variants may begin; see `StoppingRule.open_until`."""
        if isinstance(self._rule, HalvingRule) or self.patience is None:
            return self._rule.open_until(settled, planned) if self._rule else planned
        return min(planned, settled + UNDER_WAY_AT_ONCE)

    def ends_at(self, values: Sequence[float | None], planned: int) -> int | None:
        """Return how many variants the sweep has where the patience is used up, None where it is not.

        Args:
            values: what the first variants ended with, by number, all of those that have ended so far.
            planned: how many there will be at most.
        """
        if self.patience is None:
            return None
        spent = exhausted_at(values, self.patience, self._maximize)
        return None if spent is None else self.open_until(spent - 1, planned)


def exhausted_at(values: Sequence[float | None], patience: int, maximize: bool) -> int | None:
    """Return after how many variants nothing had got better for `patience` of them; None: not yet.

    Args:
        values: what the first variants ended with, by number; None where one reached no value.
        patience: how many may pass without a better one.
        maximize: whether more is better.
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

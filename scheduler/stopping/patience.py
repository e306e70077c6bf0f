"""Whether a sweep has got no better for so many trials that it ends."""

from __future__ import annotations

from collections.abc import Sequence

#: So many variants may be under way while the first of them decides whether the sweep ends.
UNDER_WAY_AT_ONCE = 8


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

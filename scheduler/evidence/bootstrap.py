"""How likely each of several variants is the best, from their values under the same seeds.

The bootstrap: Efron, Bootstrap Methods: Another Look at the Jackknife (1979). Seeds are drawn with
replacement, the same for all variants: what a seed makes easy or hard, it does for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RESAMPLES, _CHUNK = 10_000, 500


def paired_seeds(values: Sequence[Sequence[float | None]]) -> list[int]:
    """Return the indices of the seeds under which every variant has a finite value.

    Args:
        values: for each variant, its value under each seed; None for none.
    """
    return [
        index
        for index, row in enumerate(zip(*values, strict=True))
        if all(value is not None and math.isfinite(value) for value in row)
    ]


def chances(
    values: Sequence[Sequence[float]], rng: np.random.Generator, *, maximize: bool = False
) -> tuple[float, ...]:
    """Return for each variant the probability that it has the best mean.

    Args:
        values: for each variant, its value under each seed: at least one variant and one seed, all finite.
        rng: draws the seeds.
        maximize: whether larger values are better.

    Returns:
        Probabilities that add up to 1; equal means share theirs.
    """
    table = np.array(values, dtype=np.float64).T * (-1.0 if maximize else 1.0)
    seeds, variants = table.shape
    wins = np.zeros(variants)
    for _ in range(0, _RESAMPLES, _CHUNK):
        drawn = rng.integers(0, seeds, size=(_CHUNK, seeds))
        wins += _shares(table[drawn].mean(axis=1))
    return tuple(float(share) for share in wins / _RESAMPLES)


def bounded(chance: float, seeds: int) -> float:
    """Return a probability no nearer to 0 or 1 than the chance that so many seeds agree by luck.

    That is the sign test's. Where one variant is the best under each seed, every resample says so, however
    few they are.
    """
    edge = 0.5**seeds
    return min(max(chance, edge), 1.0 - edge)


def _shares(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many rows each column has the lowest value of; those that are equal share a row.

    Args:
        means: float64, shape (resamples, variants).
    """
    lowest = means == means.min(axis=1, keepdims=True)
    shares: NDArray[np.float64] = (lowest / lowest.sum(axis=1, keepdims=True)).sum(axis=0)
    return shares

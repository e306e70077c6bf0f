"""The trial's best epoch so far, by the sweep's metric, and its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import keras
from numpy.typing import NDArray


@dataclass
class BestSoFar:
    """Keeps the weights of the best epoch in memory.

    Args:
        metric: the name of the sweep's metric.
        maximize: whether larger values are better.
    """

    metric: str
    maximize: bool
    epoch: int = 0
    value: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    weights: list[NDArray[Any]] = field(default_factory=list)

    def observe(self, epoch: int, metrics: dict[str, float], model: keras.Model) -> None:
        """Record an epoch; the first of equal ones stays the best.

        Args:
            epoch: from 1.
            metrics: the epoch's, including the sweep's metric, which must be finite.
            model: as it is after the epoch.
        """
        value = metrics[self.metric]
        if self.epoch == 0 or (value > self.value if self.maximize else value < self.value):
            self.epoch, self.value, self.metrics = epoch, value, dict(metrics)
            self.weights = model.get_weights()

    def is_behind(self, bar: float | None) -> bool:
        """Whether the best value is worse than the bar; False if there is none."""
        return bar is not None and (self.value < bar if self.maximize else self.value > bar)

    def restore(self, model: keras.Model) -> None:
        """Restore the best epoch's weights."""
        if self.weights:
            model.set_weights(self.weights)

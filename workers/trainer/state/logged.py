"""The logs of an epoch as plain numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def flat_logs(logs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield logs by name; a step that reports each of `self.metrics` nests those of `compile`."""
    for name, value in logs.items():
        if isinstance(value, Mapping):
            yield from flat_logs(value)
        else:
            yield name, value


def as_number(value: Any) -> float | None:
    """Return a metric as a float; None if it is not one number."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return float(array.reshape(())) if array.size == 1 else None

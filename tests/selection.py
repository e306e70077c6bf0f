"""Which parameters of a test run in `make test`, and which in `make thorough` alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def with_quick(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Mark all parameters as thorough but the quick ones.

    Raises:
        ValueError: a quick one is none of the parameters.
    """
    names = list(names)
    if unknown := sorted(set(quick) - set(names)):
        raise ValueError(f"quick parameters must be among all, got {', '.join(unknown)}")
    return [name if name in quick else pytest.param(name, marks=pytest.mark.thorough) for name in names]

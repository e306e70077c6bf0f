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


def selected(request: pytest.FixtureRequest, test: str, names: Iterable[str]) -> list[str]:
    """Return those of the names for which a test with an argument `name` is selected in this session."""
    items = [item for item in request.session.items if getattr(item, "originalname", "") == test]
    asked = {item.callspec.params["name"] for item in items if isinstance(item, pytest.Function)}
    return [name for name in names if name in asked]

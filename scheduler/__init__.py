"""The side that decides. `from kerasweep.scheduler import Client` is the way in from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasweep.scheduler.client import Client as Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """Import `Client` when it is asked for: other processes import this package and need none of it."""
    if name == "Client":
        from kerasweep.scheduler.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

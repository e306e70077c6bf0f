"""Decides which trial is trained next, which is retried, and which is best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasweep.scheduler.client.client import Client as Client


def __getattr__(name: str) -> Any:
    """Import `Client` on first use; `kerasweep.Client` is the same object."""
    if name == "Client":
        from kerasweep.scheduler.client.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

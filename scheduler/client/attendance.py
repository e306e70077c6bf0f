"""Announces a run before its worker and scheduler can: loading TensorFlow takes seconds."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import time
from types import TracebackType
from typing import Self

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.kernel import ProcessKind, process_mark
from kerasweep.scheduler.client.connections import Connections

log = logging.getLogger(__name__)

_EVERY_S = 10.0


class Attendance:
    """Registers this process, until closed, as one that keeps a worker and a scheduler running.

    Args:
        client: connections to the store, which must exist.
    """

    def __init__(self, client: Connections) -> None:
        self._client = client
        self._name = f"run-{secrets.token_hex(3)}@{platform.node()}"
        self._told_at: float | None = None

    def __enter__(self) -> Self:
        self.tell()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._client.records.gone(self._name, ProcessKind.RUN)
        except OutOfReach as exc:  # it counts as gone half a minute later
            log.warning("could not sign off: %s", str(exc).splitlines()[0])

    def tell(self) -> None:
        """Renew the registration if due; if the store is out of reach, the next call tries again."""
        now = time.monotonic()
        if self._told_at is not None and now - self._told_at < _EVERY_S:
            return
        self._told_at = now
        facts = {"host": platform.node(), "pid": os.getpid(), "process": process_mark()}
        try:
            self._client.records.seen(self._name, facts, ProcessKind.RUN)
        except OutOfReach as exc:
            log.warning("could not sign in: %s", str(exc).splitlines()[0])

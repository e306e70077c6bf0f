"""The embedded default: Redis, a scheduler and a worker on this machine, for the life of one command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.settings import Settings, to_env
from kerasweep.scheduler.local.redis_server import RedisServer
from kerasweep.scheduler.local.supervise import Child

log = logging.getLogger(__name__)


class Local:
    """Everything that a sweep needs, as child processes that end with this one.

    Args:
        settings: where things are; an empty broker URL starts the embedded Redis.
        worker_flags: flags for the worker, as `kerasweep worker` takes them.
    """

    def __init__(self, settings: Settings, worker_flags: Sequence[str] = ()) -> None:
        self.settings = settings
        self._worker_flags = list(worker_flags)
        self._redis: RedisServer | None = None
        self._children: list[Child] = []
        self._stack = ExitStack()

    def __enter__(self) -> Local:
        with self._stack:
            self._start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self) -> None:
        """Restart children that died.

        Raises:
            InputError: the worker or the scheduler cannot do what it was asked for.
            Halted: a child keeps dying.
            OutOfReach: Redis does not come back.
        """
        if self._redis:
            self._redis.ensure()
        for child in self._children:
            if child.poll() is not None:
                raise InputError(child.last_error())

    def kill(self) -> None:
        """Kill the worker and the scheduler at once, without a grace period."""
        for child in self._children:
            child.kill()

    def _start(self) -> None:
        home = self.settings.home_path
        if self.settings.embedded_broker:
            self._redis = self._stack.enter_context(RedisServer(home / "redis"))
            self.settings = replace(self.settings, broker_url=self._redis.url)
        logs = home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._stack.callback(self._stop)
        for name, module, flags in (
            ("scheduler", "kerasweep.scheduler.deciding.service", []),
            ("worker", "kerasweep.workers.start", self._worker_flags),
        ):
            command = [sys.executable, "-P", "-m", module, *flags]
            environ = {**os.environ, **to_env(self.settings)}
            child = Child(
                command,
                f"the {name}",
                self.settings.grace_s + 5.0,
                environ=environ,
                log_path=logs / f"{name}.log",
            )
            self._children.append(child)
            child.start()

    def _stop(self) -> None:
        """Ask all to stop at once, then wait for each."""
        for child in self._children:
            child.ask()
        for child in reversed(self._children):
            child.wait()

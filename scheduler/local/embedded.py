"""The embedded default: Redis, a scheduler and a worker on this machine, for the life of one command."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
        self.start_worker()
        with self._stopped_on_error():
            self._start("scheduler", "kerasweep.scheduler.deciding.service", [])
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_worker(self) -> None:
        """Start the worker, and what it needs, before the rest: its trainer takes seconds to load TensorFlow.

        A second call does nothing. Ends with `close`, or with the context.
        """
        if self._children:
            return
        with self._stopped_on_error():
            if self.settings.embedded_broker:
                self._redis = self._stack.enter_context(RedisServer(self.settings.home_path / "redis"))
                self.settings = replace(self.settings, broker_url=self._redis.url)
            self._stack.callback(self._stop)
            self._start("worker", "kerasweep.workers.start", self._worker_flags)

    def close(self) -> None:
        """Stop everything that was started."""
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

    @property
    def pids(self) -> set[int | None]:
        """The process numbers of the worker and the scheduler."""
        return {child.pid for child in self._children}

    def keep(self) -> None:
        """Learn that the sweep has ended as it should; here `close` stops everything all the same."""

    def kill(self) -> None:
        """Kill the worker and the scheduler at once, without a grace period."""
        for child in self._children:
            child.kill()

    @contextmanager
    def _stopped_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, module: str, flags: Sequence[str]) -> None:
        logs = self.settings.home_path / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        child = Child(
            [sys.executable, "-P", "-m", module, *flags],
            f"the {name}",
            self.settings.grace_s + 5.0,
            environ={**os.environ, **to_env(self.settings)},
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

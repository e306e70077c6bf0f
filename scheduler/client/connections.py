"""Connections to a store, its artifacts and its Redis, each opened on first use."""

from __future__ import annotations

import logging
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kerasweep.jobs.errors import NotFound, OutOfReach, without_password
from kerasweep.jobs.kernel import ProcessKind, has_ended
from kerasweep.jobs.settings import Settings, from_env, to_env

if TYPE_CHECKING:
    from kerasweep.jobs.queue.broker import HintQueue
    from kerasweep.jobs.store.artifacts import Artifacts
    from kerasweep.jobs.store.faults.quarantines import Quarantine
    from kerasweep.jobs.store.identity import Ownership
    from kerasweep.jobs.store.models import ProcessRecord
    from kerasweep.jobs.store.records import Records

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
#: A status asks Redis this seldom, and for this long: a live view reads it twice a second.
_ASKED_EVERY_S, _ANSWER_S = 10.0, 2.0


class Connections:
    """The locations of a store, its artifacts and its Redis, and the connections to them.

    Args:
        settings: the settings; by default from the environment (`KERASWEEP_…`).
        flags: single settings that override those, such as `home` or `store_url`.

    Raises:
        InputError: an unknown setting, or an invalid value.
    """

    def __init__(self, settings: Settings | None = None, **flags: str | float | None) -> None:
        self.settings = from_env(None if settings is None else to_env(settings), **flags)
        self._asked: tuple[float, str | None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({without_password(self.settings.store)})"

    @cached_property
    def records(self) -> Records:
        """The records; created if there are none.

        Raises:
            OutOfReach: the database does not respond.
        """
        from kerasweep.jobs.store.records import Records

        return Records(self.settings.store, reach_s=self.settings.reach_s)

    @cached_property
    def artifacts(self) -> Artifacts:
        """The artifacts.

        Raises:
            OutOfReach: they cannot be written to.
        """
        from kerasweep.jobs.store.artifacts import Artifacts

        return Artifacts(self.settings.artifacts)

    @cached_property
    def queue(self) -> HintQueue | None:
        """The connection to Redis; None if the embedded one is not running."""
        url = self.broker_url()
        if url is None:
            return None
        from kerasweep.jobs.queue.broker import HintQueue

        return HintQueue(url, self.settings.reach_s)

    def broker_url(self) -> str | None:
        """Return the address of Redis: the configured URL, or the embedded one's if that is running."""
        if not self.settings.embedded_broker:
            return self.settings.broker_url
        from kerasweep.scheduler.local.redis_server import RedisServer

        server = RedisServer(redis_folder(self.settings))
        return server.url if server.folder.is_dir() and server.answers() else None

    @cached_property
    def ownership(self) -> Ownership:
        """Decides whether this store may delete its artifacts."""
        from kerasweep.jobs.store.identity import Ownership

        return Ownership(self.records, self.artifacts, together=self.settings.together)

    def mark_artifacts(self) -> None:
        """Mark the artifacts as this store's unless they are; if that fails, a scheduler will do it."""
        try:
            self.ownership.claim()
        except OutOfReach as exc:
            log.warning("the artifacts are not marked yet: %s", str(exc).splitlines()[0])

    def workers(self) -> list[ProcessRecord]:
        """Return the workers with a heartbeat in the last half minute."""
        return self._alive(ProcessKind.WORKER)

    def quarantines(self) -> list[Quarantine]:
        """Return the workers that are set aside, by name."""
        return self.records.quarantines() if self.has_store() else []

    def release_worker(self, name: str) -> None:
        """Give trials again to a worker that was set aside.

        Raises:
            NotFound: it is not set aside.
        """
        if not self.has_store() or not self.records.release_worker(name):
            listed = ", ".join(one.worker for one in self.quarantines()) or "none"
            raise NotFound(f"a worker must be set aside to be released, got {name!r}; set aside: {listed}")

    def schedulers(self) -> list[ProcessRecord]:
        """Return the schedulers with a heartbeat in the last half minute."""
        return self._alive(ProcessKind.SCHEDULER)

    def runs(self) -> list[ProcessRecord]:
        """Return the runs (`kerasweep run`) that keep a scheduler and a worker; both may be starting."""
        return [one for one in self._alive(ProcessKind.RUN) if not has_ended(one.facts.get("process"))]

    def _alive(self, kind: ProcessKind) -> list[ProcessRecord]:
        return self.records.alive(kind) if self.has_store() else []

    def has_store(self) -> bool:
        """Whether there is a store to read; reading must not create an empty one in every folder."""
        url = self.settings.store
        try:
            return not url.startswith(_SQLITE) or Path(url.removeprefix(_SQLITE)).exists()
        except OSError:  # a name too long, or a forbidden folder: opening it reports why
            return True

    def close(self) -> None:
        """Close every connection; they reopen when needed."""
        self.__dict__.pop("ownership", None)
        for name in ("records", "queue"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    def expect_broker(self, url: str) -> None:
        """Check that Redis responds.

        Raises:
            OutOfReach: it does not.
        """
        from kerasweep.jobs.queue.broker import HintQueue

        HintQueue(url, self.settings.reach_s).ping()

    def broker_outage(self) -> str | None:
        """Return why a configured Redis is out of reach, None if it responds; asked at most every 10 s."""
        if self.settings.embedded_broker:
            return None
        if self._asked is None or time.monotonic() - self._asked[0] > _ASKED_EVERY_S:
            self._asked = (time.monotonic(), self._ask_broker())
        return self._asked[1]

    def _ask_broker(self) -> str | None:
        from kerasweep.jobs.queue.broker import HintQueue

        asked = HintQueue(self.settings.broker_url, min(self.settings.reach_s, _ANSWER_S))
        try:
            asked.ping()
        except OutOfReach as exc:
            return f"{str(exc).splitlines()[0]}; start it, or set KERASWEEP_BROKER_URL to one that runs"
        finally:
            asked.close()
        return None

    def hint(self, sweep: str) -> None:
        """Make the sweep's next decisions and announce its queued trials, if Redis responds."""
        from kerasweep.scheduler.deciding.advance import advance_from_afar, send_hints

        advance_from_afar(self.records, sweep)
        try:
            if self.queue is not None:
                send_hints(self.records, self.queue, sweep)
        except OutOfReach as exc:
            log.warning("queued trials are not announced to workers yet: %s", str(exc).splitlines()[0])

    def store_version(self) -> dict[str, Any]:
        """Return the version of the store's tables, and the one that this code needs.

        Raises:
            OutOfReach: the database does not respond.
        """
        from kerasweep.jobs.store.sql import migration, schema

        where = {"store": without_password(self.settings.store), "needed": schema.SCHEMA_VERSION}
        found = (
            migration.read_version(self.settings.store, self.settings.reach_s) if self.has_store() else None
        )
        return {**where, "found": found.number if found else None}

    def upgrade_store(self) -> dict[str, Any]:
        """Upgrade the store; return the versions before and after, and the path of the backup.

        Raises:
            InputError: there is no store, or its tables are newer than this code.
            OutOfReach: the database does not respond, or the backup cannot be written.
        """
        from kerasweep.jobs.store.sql import migration

        if not self.has_store():
            raise NotFound(f"there is no store to upgrade at {self.settings.store}")
        done = migration.upgrade(self.settings.store, self.settings.reach_s)
        backup = str(done.backup) if done.backup else None
        return {
            "store": without_password(self.settings.store),
            "before": done.before,
            "after": done.after,
            "backup": backup,
        }

    def expect_store(self, name: str) -> None:
        """Check that there is a store in which to look for a sweep.

        Raises:
            NotFound: there is none.
        """
        if not self.has_store():
            raise NotFound(
                f"a sweep must be on record; there is no store at {self.settings.store}, so no {name!r}\n"
                "Run this in the folder that it was submitted from, or name its store: --home or --store"
            )


def redis_folder(settings: Settings) -> Path:
    """Return the folder of the embedded Redis."""
    return settings.home_path / "redis"

"""The ledger of a worker: the progress of its attempts is sent to the store together, at most twice a second.

Every record renews the attempts' leases and brings back their answers. If the store does not respond, the
ledger keeps what it has; an attempt that could not renew in time is stopped before its lease is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import EpochRecord, Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Answer, AttemptKey

log = logging.getLogger(__name__)

_SEEN_EVERY_S = 10.0


@dataclass
class _Page:
    """An attempt's page in the ledger."""

    answered: Callable[[Answer], None]
    unrenewed: Callable[[], None]
    renewed_at: float
    epochs: list[EpochRecord] = field(default_factory=list)
    checkpoints: list[ArtifactRef] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    def take(self, key: AttemptKey) -> Progress:
        """Return what was written on the page, and clear it."""
        progress = Progress(key, tuple(self.epochs), tuple(self.checkpoints), tuple(self.logs))
        self.epochs, self.checkpoints, self.logs = [], [], []
        return progress

    def put_back(self, progress: Progress) -> None:
        """Put back what could not be sent, in front of newer entries."""
        self.epochs[:0], self.checkpoints[:0] = progress.epochs, progress.checkpoints
        self.logs[:0] = progress.logs

    @property
    def empty(self) -> bool:
        return not (self.epochs or self.checkpoints or self.logs)


class Ledger:
    """Sends the progress of attempts, and receives requests to them.

    Args:
        records: the destination.
        settings: the lease, its renewal and the flush, in seconds.
        worker: this worker's name.
        facts: returns what it currently offers, for `doctor`.
    """

    def __init__(
        self, records: Records, settings: Settings, worker: str, facts: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._records, self._settings = records, settings
        self._worker, self._facts = worker, facts
        self._pages: dict[AttemptKey, _Page] = {}
        self._pages_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._closing = threading.Event()
        self._seen_at = 0.0
        self._thread = threading.Thread(target=self._loop, name="ledger", daemon=True)
        self._watch = threading.Thread(target=self._watch_leases, name="leases", daemon=True)

    def start(self) -> None:
        """Start flushing."""
        self._thread.start()
        self._watch.start()

    def open(
        self, key: AttemptKey, answered: Callable[[Answer], None], unrenewed: Callable[[], None]
    ) -> None:
        """Open an attempt's page.

        Args:
            key: the attempt.
            answered: called, in the ledger's thread, with any answer other than `go on`.
            unrenewed: called, in one of the ledger's threads, when the lease was not renewed for too long.
        """
        with self._pages_lock:
            self._pages[key] = _Page(answered, unrenewed, time.monotonic())

    def write(
        self,
        key: AttemptKey,
        *,
        epoch: EpochRecord | None = None,
        checkpoint: ArtifactRef | None = None,
        log_line: str | None = None,
    ) -> None:
        """Write on an attempt's page."""
        with self._pages_lock:
            page = self._pages[key]
            if epoch is not None:
                page.epochs.append(epoch)
            if checkpoint is not None:
                page.checkpoints.append(checkpoint)
            if log_line is not None:
                page.logs.append(log_line)

    def close(self, key: AttemptKey) -> Progress:
        """Close an attempt's page; return what was not sent, for the attempt's last transaction."""
        with self._flush_lock, self._pages_lock:
            return self._pages.pop(key).take(key)

    def tell_soon(self) -> None:
        """Send the worker's offer, and the state of its attempts, with the next flush."""
        self._seen_at = 0.0

    def stop(self) -> None:
        """Stop; the worker is recorded as gone."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._records.gone(self._worker)
        except OutOfReach as exc:
            log.warning("could not sign off: %s", str(exc).splitlines()[0])

    def _loop(self) -> None:
        while not self._closing.wait(self._settings.flush_s):
            try:
                self._sign_in()
                self._flush()
            except OutOfReach as exc:
                log.warning("the ledger waits: %s", str(exc).splitlines()[0])
            except Exception:
                log.exception("the ledger could not be written")

    def _watch_leases(self) -> None:
        # A separate thread, since a store that hangs may block the other one for longer than a lease.
        while not self._closing.wait(self._settings.flush_s):
            self._stop_unrenewed()

    def _sign_in(self) -> None:
        now = time.monotonic()
        if now - self._seen_at > _SEEN_EVERY_S:
            self._records.seen(self._worker, self._facts())
            self._seen_at = now

    def _flush(self) -> None:
        with self._flush_lock:
            now = time.monotonic()
            batch = self._take(now)
            try:
                answers = self._recorded(batch)
            except BaseException:
                self._put_back(batch)
                raise
        self._hear(answers, now)

    def _recorded(self, batch: list[Progress]) -> Mapping[AttemptKey, Answer]:
        """Record a batch; if it is refused as a whole, record it page by page, so that one does not spoil the
        others.
        """
        try:
            return self._records.record(batch, self._settings.lease_s) if batch else {}
        except OutOfReach:
            raise
        except Exception:
            if len(batch) == 1:
                raise
            log.exception("a batch of %d pages was refused; they are written one by one", len(batch))
        answers: dict[AttemptKey, Answer] = {}
        for progress in batch:
            try:
                answers |= self._records.record([progress], self._settings.lease_s)
            except OutOfReach:
                self._put_back([progress])
            except Exception:
                log.exception("the page of attempt %s could not be written", progress.key)
                self._put_back([progress])  # it is not renewed, so the attempt ends
        return answers

    def _take(self, now: float) -> list[Progress]:
        """Take the pages that have entries, or whose lease is due for renewal."""
        with self._pages_lock:
            due = [
                (key, page)
                for key, page in self._pages.items()
                if not page.empty or now - page.renewed_at >= self._settings.renew_s
            ]
            return [page.take(key) for key, page in due]

    def _put_back(self, batch: list[Progress]) -> None:
        with self._pages_lock:
            for progress in batch:
                if progress.key in self._pages:
                    self._pages[progress.key].put_back(progress)

    def _hear(self, answers: Mapping[AttemptKey, Answer], now: float) -> None:
        for key, answer in answers.items():
            with self._pages_lock:
                page = self._pages.get(key)
                if page and answer is not Answer.STALE:
                    page.renewed_at = now
            if page and answer is not Answer.GO_ON:
                page.answered(answer)

    def _stop_unrenewed(self) -> None:
        """Stop attempts that may lose their lease before the store responds again."""
        now = time.monotonic()
        with self._pages_lock:
            late = [
                page for page in self._pages.values() if now - page.renewed_at > self._settings.self_stop_s
            ]
        for page in late:
            page.unrenewed()

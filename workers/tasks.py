"""The task of a trial: take a slot, claim, train, finish."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.queue.hints import train_queue
from kerasweep.jobs.queue.watchdog import Watchdog
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.models import Claim, Demand
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import TrialKey
from kerasweep.workers.attempt import Attempt
from kerasweep.workers.bundles import BundleShelf
from kerasweep.workers.host import Host, NoSlot
from kerasweep.workers.ledger import Ledger
from kerasweep.workers.slots import Slot

log = logging.getLogger(__name__)

_ASIDE_LOOK_S = 2.0


@dataclass
class Worker:
    """Everything that a task needs, and the running attempts by their task's id."""

    name: str
    settings: Settings
    records: Records
    queue: HintQueue
    host: Host
    ledger: Ledger
    bundles: BundleShelf
    engine: str
    live: dict[str, Attempt] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    left: threading.Event = field(default_factory=threading.Event)
    watchdog: Watchdog | None = None

    def train(self, task_id: str, key: TrialKey, taken: Sequence[str] = ()) -> bool:
        """Train a trial if it can be claimed; a redundant hint ends here silently.

        Args:
            task_id: of the hint.
            key: the trial.
            taken: the queue's key and the original text, to put the hint back if no slot is free for it.

        Returns:
            False if the hint was put back.
        """
        try:
            demand = self.records.demand(key)
            if demand is None or not self._fits(key, demand):
                return True
            with self.host.slot(key.sweep, demand.pack_limit, key) as slot:
                claim = self.records.claim(key, self.name, self.settings.lease_s)
                if claim is None and self._stands_aside():
                    raise NoSlot
                if claim is None:
                    return True
                self._run(task_id, claim, slot)
            self.queue.send_advance(key.sweep)
        except NoSlot:
            self._put_back(key, taken)
            return False
        except OutOfReach as exc:
            log.warning("trial %s waits: %s", key, str(exc).splitlines()[0])
        return True

    def _fits(self, key: TrialKey, demand: Demand) -> bool:
        """Tell whether this worker has the trial's devices: a queue says nothing, anyone may move a hint."""
        if (queue := train_queue(demand.gpus)) in self.host.queues:
            return True
        log.warning("trial %s is for workers of %s, and its hint was in another queue: dropped", key, queue)
        return False

    def _stands_aside(self) -> bool:
        """Tell whether this worker is set aside: then it takes no hints until it is released or probes."""
        if not self.records.is_aside(self.name):
            return False
        with self.lock:
            first, self.host.aside = not self.host.aside, True
        if first:
            log.warning("this worker is set aside and leaves trials to others; `kerasweep workers` says why")
            self.host.look_again()
            threading.Thread(target=self._wait_aside, name="aside", daemon=True).start()
        return True

    def _wait_aside(self) -> None:
        while not self.left.wait(_ASIDE_LOOK_S):
            try:
                if not self.records.is_aside(self.name):
                    break
            except OutOfReach:
                continue  # the store is away for everyone
        self.host.aside = False
        self.host.look_again()

    def _put_back(self, key: TrialKey, taken: Sequence[str]) -> None:
        """Leave a hint to another worker; if it gets lost, reconciling sends it again."""
        try:
            if taken:
                self.queue.give_back(*taken)
        except OutOfReach as exc:
            log.warning(
                "trial %s could not be returned to its queue; it will be queued again: %s",
                key,
                str(exc).splitlines()[0],
            )

    def phases(self) -> dict[str, str]:
        """Return what trainers are doing for trials that do not train yet, by trial."""
        with self.lock:
            attempts = list(self.live.values())
        return {str(one.key.of_trial): one.phase for one in attempts if one.phase not in ("", "training")}

    def leave(self) -> None:
        """Sign off, and stop the trainers; a second call does nothing."""
        with self.lock:
            first = not self.left.is_set()
            self.left.set()
        if first:
            self.ledger.stop()
            self.host.close()

    def _run(self, task_id: str, claim: Claim, slot: Slot) -> None:
        attempt = Attempt(claim, slot, self.host, self.records, self.ledger, self.settings, self.engine)
        with self.lock:
            self.live[task_id] = attempt
        try:
            attempt.run(self.bundles)
        finally:
            with self.lock:
                # A duplicate message started its second attempt here while the first was leaving.
                if self.live.get(task_id) is attempt:
                    del self.live[task_id]

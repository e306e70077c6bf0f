"""The trainers of this worker: start, feed, watch, scale, stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from kerasweep.jobs.errors import InputError, OutOfReach
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.trial import TrialKey
from kerasweep.workers.autoscale import Sample, Scale
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.slots import Slot, Slots
from kerasweep.workers.trainers import Trainer

log = logging.getLogger(__name__)

_GIVE_UP_STARTS = 5
_CLOSE_S = 5.0


class NoSlot(Exception):
    """A trial cannot start here now: there is no slot for it, or the worker is stopping."""


class Host:
    """The trainers of a worker, and the slots in them.

    Args:
        device_sets: the devices of each trainer.
        width: how many trials a trainer may train in one pack.
        settings: grace and start times, in seconds.
    """

    def __init__(self, device_sets: Sequence[DeviceSet], width: int, settings: Settings) -> None:
        self._settings = settings
        self._changed = threading.Condition()
        self._slots = Slots([self._trainer(devices) for devices in device_sets], width)
        self.preempting = False
        #: Whether this worker is set aside, since trials fail on it alone.
        self.aside = False
        # Whether a hint has found no slot since the last change, and whether one has since two shared a
        # trainer.
        self._full = self._wary = False
        #: Called with the number of hints this worker may hold, whenever that may have changed; from any
        #: thread.
        self.on_capacity: Callable[[int], None] = lambda _capacity: None

    @property
    def queues(self) -> list[str]:
        """The queues of trials that its trainers can train."""
        return sorted({queue for trainer in self.trainers for queue in trainer.devices.queues})

    @property
    def trainers(self) -> list[Trainer]:
        """The current trainers."""
        with self._changed:
            return self._slots.trainers

    @property
    def scale(self) -> Scale:
        """The number of trainers, and of slots in each."""
        with self._changed:
            return Scale(len(self._slots.trainers), self._slots.width)

    @property
    def capacity(self) -> int:
        """How many trials may train here at once, as far as is known about them."""
        with self._changed:
            return self._slots.capacity

    @property
    def intake(self) -> int:
        """How many hints this worker may hold now: for the trials that train, and for those that could start.

        What kind a trial is only shows in its hint. So a worker whose last hint found no slot takes no other
        until something changes here, and then one at a time until trials share a trainer again.
        """
        with self._changed:
            return self._intake()

    def start(self) -> None:
        """Start the trainers."""
        for trainer in self.trainers:
            trainer.start()

    def wait(self, gpus_needed: bool = False) -> None:
        """Wait until one of the trainers is ready.

        Args:
            gpus_needed: whether a trainer that was given GPUs and sees none must not train.

        Raises:
            InputError: there is such a trainer.
            OutOfReach: no trainer starts; its own messages are in the log.
        """
        trainers = self.trainers
        deadline = time.monotonic() + self._settings.start_s
        with self._changed:
            while not any(trainer.ready for trainer in trainers):
                broken = all(trainer.failed_starts >= _GIVE_UP_STARTS for trainer in trainers)
                if broken or time.monotonic() >= deadline:
                    remedy = (
                        "Its messages are above; is TensorFlow installed? pip install 'kerasweep[worker]'"
                    )
                    raise OutOfReach("A trainer", "this machine", remedy)
                self._changed.wait(1.0)
            blind = next((trainer for trainer in trainers if trainer.blind), None)
            if gpus_needed and blind is not None:
                named = ",".join(blind.devices.gpus)
                raise InputError(
                    f"--gpus must name GPUs that TensorFlow sees, got {named} and it sees none; "
                    "pip install 'kerasweep[cuda]', or omit --gpus to train on the CPU"
                )

    @contextmanager
    def slot(
        self, sweep: str, pack_limit: int | None = None, trial: TrialKey | None = None
    ) -> Iterator[Slot]:
        """Hold a slot in a trainer, for a trial in the one where it trained last, if possible.

        Raises:
            NoSlot: none is free for such a trial; nothing waits here that another worker could train.
        """
        slot = self._take(sweep, pack_limit, trial)
        try:
            yield slot
        finally:
            with self._changed:
                self._slots.leave(slot)
                self._retire_if_grown(slot.trainer)
                self._tell()

    def settle(self, slot: Slot, packed: bool, pack_limit: int | None) -> None:
        """Record whether a trial, and so its sweep, trains in packs; a packed one makes room for others."""
        with self._changed:
            self._slots.settle(slot, packed, pack_limit)
            self._tell()

    def begin(self, slot: Slot) -> None:
        """Record that a trial makes steps, so that a trainer that came later has room for others."""
        with self._changed:
            self._slots.begin(slot)
            self._tell()

    def rescale(self, scale: Scale) -> None:
        """Change the number of slots and trainers; a trainer to be removed stops once it is empty."""
        with self._changed:
            if self.preempting:
                return
            self._slots.width = scale.slots
            trainers = [trainer for trainer in self._slots.trainers if not trainer.leaving]
            for trainer in trainers[scale.trainers :]:
                trainer.leaving = True
                self._retire_if_grown(trainer)
            for number in range(len(trainers), scale.trainers):
                devices = trainers[0].devices
                share = max(1, devices.threads * len(trainers) // scale.trainers)
                trainer = self._trainer(replace(devices, name=f"cpu {number}", threads=share))
                self._slots.add(trainer)
                trainer.start()
            self._tell()

    def sample(self) -> Sample:
        """Return the trainers' current counters."""
        with self._changed:
            trainers = self._slots.trainers
            return Sample(
                at_s=time.monotonic(),
                steps=tuple(trainer.steps for trainer in trainers),
                cpu_s=sum(trainer.cpu_s for trainer in trainers),
                full=self._slots.full,
                sweeps=self._slots.sweeps,
                packs=tuple(self._slots.taken(trainer) for trainer in trainers),
            )

    def look_again(self) -> None:
        """Let a hint be tried again, in case a freed slot went unnoticed."""
        with self._changed:
            self._tell()

    def preempt(self) -> bool:
        """Start nothing new; return whether this is the first call."""
        with self._changed:
            first, self.preempting = not self.preempting, True
            self._changed.notify_all()
            return first

    def close(self) -> None:
        """Stop all trainers at once; runs still in them are released without counting a failure."""
        self.preempt()
        trainers = self.trainers
        for trainer in trainers:
            trainer.ask_to_end()
        deadline = time.monotonic() + _CLOSE_S
        for trainer in trainers:
            trainer.close(max(0.1, deadline - time.monotonic()))

    def _trainer(self, devices: DeviceSet) -> Trainer:
        return Trainer(devices, self._settings.artifacts, self._notify)

    def _take(self, sweep: str, pack_limit: int | None, trial: TrialKey | None) -> Slot:
        with self._changed:
            slot = None if self.preempting else self._slots.take(sweep, pack_limit, trial)
            if slot is None:
                self._full = self._wary = True
                self.on_capacity(self._intake())
                raise NoSlot
            if self._slots.taken(slot.trainer) > 1:
                self._wary = False
                self.on_capacity(self._intake())
            return slot

    def _intake(self) -> int:
        if self.preempting or self.aside or self._full:
            return self._slots.placed
        capacity = self._slots.capacity
        return min(capacity, self._slots.placed + 1) if self._wary else capacity

    def _retire_if_grown(self, trainer: Trainer) -> None:
        """Give a trainer whose memory has grown no more runs, and replace it once it has none.

        TensorFlow leaks a few MiB with each trial, whatever is cleared.
        """
        if trainer.rss_bytes > self._settings.trainer_rss_limit_mib * 2**20:
            trainer.retiring = True
        if self._slots.taken(trainer):
            return
        if trainer.leaving:
            self._slots.drop(trainer)
            trainer.ask_to_end()
        elif trainer.retiring:
            trainer.retire()

    def _notify(self) -> None:
        with self._changed:
            self._tell()

    def _tell(self) -> None:
        self._full = False
        self._changed.notify_all()
        self.on_capacity(self._intake())

"""The trainers of this worker: start, feed, watch, end.

A trial takes a seat in a trainer before it is claimed, so that nothing is claimed that cannot train at
once. What trains by `fit` has a trainer to itself; what trains in a pack shares it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.settings import Settings
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.trainers import Trainer

log = logging.getLogger(__name__)

_GIVE_UP_STARTS = 5
_CLOSE_S = 5.0


class Preempting(Exception):
    """The worker is about to end: nothing new begins."""


@dataclass
class Seat:
    """A trial's place in a trainer; `weight` is how much of the trainer it takes."""

    trainer: Trainer
    weight: int


class Host:
    """The trainers of a worker, and the seats in them.

    Args:
        device_sets: what each trainer owns.
        slots: how many trials a trainer may train in one pack.
        settings: grace and start times, in seconds.
    """

    def __init__(self, device_sets: Sequence[DeviceSet], slots: int, settings: Settings) -> None:
        self.slots, self._settings = slots, settings
        self._changed = threading.Condition()
        self.trainers = [Trainer(devices, settings.artifacts, self._notify) for devices in device_sets]
        self._taken: dict[Trainer, int] = dict.fromkeys(self.trainers, 0)
        self._packed: dict[str, bool] = {}
        self.preempting = False

    @property
    def capacity(self) -> int:
        """How many trials may train here at once."""
        return self.slots * len(self.trainers)

    def start(self) -> None:
        """Start the trainers and wait until one of them is warm.

        Raises:
            OutOfReach: no trainer comes up; its own words are in the log.
        """
        for trainer in self.trainers:
            trainer.start()
        deadline = time.monotonic() + self._settings.start_s
        with self._changed:
            while not any(trainer.ready for trainer in self.trainers):
                broken = all(trainer.failed_starts >= _GIVE_UP_STARTS for trainer in self.trainers)
                if broken or time.monotonic() >= deadline:
                    remedy = "Its own words are above; is TensorFlow there? pip install 'kerasweep[worker]'"
                    raise OutOfReach("A trainer", "this machine", remedy)
                self._changed.wait(1.0)

    @contextmanager
    def seat(self, sweep: str, pack_limit: int | None = None) -> Iterator[Seat]:
        """Wait for a place in a trainer and hold it.

        Raises:
            Preempting: the worker is about to end.
        """
        seat = self._take(sweep, pack_limit)
        try:
            yield seat
        finally:
            with self._changed:
                self._taken[seat.trainer] -= seat.weight
                self._retire_if_grown(seat.trainer)
                self._changed.notify_all()

    def settle(self, sweep: str, seat: Seat, packed: bool) -> None:
        """Learn whether a sweep's trials train in packs; a packed one makes room for others."""
        with self._changed:
            self._packed[sweep] = packed
            weight = 1 if packed else self.slots
            if weight < seat.weight:
                self._taken[seat.trainer] -= seat.weight - weight
                seat.weight = weight
                self._changed.notify_all()

    def preempt(self) -> bool:
        """Begin nothing new; tell whether this is the first that is heard of it."""
        with self._changed:
            first, self.preempting = not self.preempting, True
            self._changed.notify_all()
            return first

    def close(self) -> None:
        """End the trainers, all at once; what still runs in them is given back, at no charge."""
        self.preempt()
        for trainer in self.trainers:
            trainer.ask_to_end()
        deadline = time.monotonic() + _CLOSE_S
        for trainer in self.trainers:
            trainer.close(max(0.1, deadline - time.monotonic()))

    def _take(self, sweep: str, pack_limit: int | None) -> Seat:
        with self._changed:
            while not self.preempting:
                weight = self._weight(sweep, pack_limit)
                free = [
                    trainer
                    for trainer in self.trainers
                    if trainer.available and self._taken[trainer] + weight <= self.slots
                ]
                if free:
                    trainer = min(free, key=lambda one: self._taken[one])
                    self._taken[trainer] += weight
                    return Seat(trainer, weight)
                self._changed.wait(1.0)
            raise Preempting

    def _weight(self, sweep: str, pack_limit: int | None) -> int:
        """A first trial shows how its sweep trains, so it sits alone."""
        if not self._packed.get(sweep, False):
            return self.slots
        return max(1, -(-self.slots // pack_limit)) if pack_limit else 1

    def _retire_if_grown(self, trainer: Trainer) -> None:
        """Let a trainer whose memory has grown take no more runs, and start it anew when it has none.

        TensorFlow leaks a few MiB with each trial, whatever is cleared.
        """
        if trainer.rss_bytes > self._settings.trainer_rss_limit_mib * 2**20:
            trainer.retiring = True
        if trainer.retiring and not self._taken[trainer]:
            trainer.retire()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

"""The seats of a worker: which trial sits in which trainer, and how many hints the worker may take.

A trial takes a seat before it is claimed, so that nothing is claimed that cannot train at once. What trains
in a pack shares its trainer with others; what trains by `fit` has it to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kerasweep.workers.trainers import Trainer


@dataclass(eq=False)
class Seat:
    """A trial's place in a trainer.

    Args:
        trainer: where.
        sweep: the trial's.
        limit: how many may sit in the trainer together, this one among them; None for all of its slots.
    """

    trainer: Trainer
    sweep: str
    limit: int | None


class Seats:
    """Who sits where. One thread at a time.

    Args:
        trainers: those of the worker.
        slots: how many trials a trainer may train in one pack.
    """

    def __init__(self, trainers: Sequence[Trainer], slots: int) -> None:
        self.slots = slots
        self._seats: dict[Trainer, list[Seat]] = {trainer: [] for trainer in trainers}
        self._packed: dict[str, bool] = {}
        self._packs: dict[Trainer, bool] = {}

    @property
    def trainers(self) -> list[Trainer]:
        """All trainers, in the order in which they came."""
        return list(self._seats)

    @property
    def sweeps(self) -> frozenset[str]:
        """The sweeps of those who sit."""
        return frozenset(seat.sweep for seats in self._seats.values() for seat in seats)

    @property
    def capacity(self) -> int:
        """How many trials may train at once, as far as is known: a trainer that packs has all its slots."""
        return sum(self._places_in(trainer) for trainer in self._seats)

    @property
    def full(self) -> bool:
        """Whether every trainer is there, and has no seat left."""
        return all(
            trainer.ready and len(seats) >= self._places_in(trainer) for trainer, seats in self._seats.items()
        )

    def taken(self, trainer: Trainer) -> int:
        """Return how many sit in a trainer."""
        return len(self._seats[trainer])

    def take(self, sweep: str, pack_limit: int | None) -> Seat | None:
        """Take a seat in the trainer that has the most free; None where there is none."""
        # A first trial shows how its sweep trains, so it sits alone.
        limit = pack_limit if self._packed.get(sweep, False) else 1
        free = [trainer for trainer in self._seats if trainer.available and self._has_room(trainer, limit)]
        if not free:
            return None
        seat = Seat(min(free, key=self.taken), sweep, limit)
        self._seats[seat.trainer].append(seat)
        return seat

    def settle(self, seat: Seat, packed: bool, pack_limit: int | None) -> None:
        """Learn whether a trial, and so its sweep, trains in packs; a packed one makes room for others."""
        self._packed[seat.sweep] = self._packs[seat.trainer] = packed
        seat.limit = pack_limit if packed else 1

    def leave(self, seat: Seat) -> None:
        """Give a seat back."""
        self._seats[seat.trainer].remove(seat)

    def add(self, trainer: Trainer) -> None:
        """Add a trainer, of which is thought what is known of the others."""
        self._packs[trainer] = any(self._packs.values())
        self._seats[trainer] = []

    def drop(self, trainer: Trainer) -> None:
        """Take away a trainer in which nobody sits."""
        self._packs.pop(trainer, None)
        del self._seats[trainer]

    def _places_in(self, trainer: Trainer) -> int:
        if trainer.leaving:
            return len(self._seats[trainer])
        return self.slots if self._packs.get(trainer, False) else 1

    def _has_room(self, trainer: Trainer, limit: int | None) -> bool:
        limits = [self.slots, limit, *(seat.limit for seat in self._seats[trainer])]
        return len(self._seats[trainer]) < min(number for number in limits if number is not None)

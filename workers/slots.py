"""The slots of a worker: which trial trains in which trainer, and how many hints the worker may take.

A trial takes a slot before it is claimed, so that no trial is claimed before it can train; a hint that finds
no slot goes back to its queue. A packed trial shares its trainer with others; one trained with `fit` has it
to itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from kerasweep.jobs.trial import TrialKey
from kerasweep.workers.trainers import Trainer

#: The number of trials whose trainer is remembered.
_REMEMBERED = 10_000


@dataclass(eq=False)
class Slot:
    """A trial's slot in a trainer.

    Args:
        trainer: the trainer.
        sweep: the trial's.
        limit: how many may train in the trainer together, including this one; None for all of its slots.
    """

    trainer: Trainer
    sweep: str
    limit: int | None


class Slots:
    """Assigns trials to trainers. Not thread-safe.

    Args:
        trainers: those of the worker.
        width: how many trials a trainer may train in one pack.
    """

    def __init__(self, trainers: Sequence[Trainer], width: int) -> None:
        self.width = width
        self._slots: dict[Trainer, list[Slot]] = {trainer: [] for trainer in trainers}
        self._packed: dict[str, bool] = {}
        self._packs: dict[Trainer, bool] = {}
        #: The slots of trainers that came later: one more with each trial that has begun to make steps.
        self._fresh: dict[Trainer, int] = {}
        #: Where trials trained last: one that waits at a rung may still be in the trainer's memory.
        self._homes: OrderedDict[TrialKey, Trainer] = OrderedDict()

    @property
    def trainers(self) -> list[Trainer]:
        """All trainers, in order of arrival."""
        return list(self._slots)

    @property
    def sweeps(self) -> frozenset[str]:
        """The sweeps in training."""
        return frozenset(slot.sweep for slots in self._slots.values() for slot in slots)

    @property
    def capacity(self) -> int:
        """How many trials may train at once, as far as is known: a trainer that packs uses all its slots."""
        return sum(self._slots_of(trainer) for trainer in self._slots)

    @property
    def placed(self) -> int:
        """The number of trials in training."""
        return sum(map(len, self._slots.values()))

    @property
    def full(self) -> bool:
        """Whether every trainer is ready, and has no slot left."""
        return all(
            trainer.ready and len(slots) >= self._slots_of(trainer) for trainer, slots in self._slots.items()
        )

    def taken(self, trainer: Trainer) -> int:
        """Return the number of trials in a trainer."""
        return len(self._slots[trainer])

    def take(self, sweep: str, pack_limit: int | None, trial: TrialKey | None = None) -> Slot | None:
        """Take a slot in the trial's last trainer, else in the one with the most free slots; None if there
        is none.
        """
        # The first trial reveals how its sweep trains, so it trains alone.
        limit = pack_limit if self._packed.get(sweep, False) else 1
        free = [trainer for trainer in self._slots if trainer.available and self._has_room(trainer, limit)]
        if not free:
            return None
        home = None if trial is None else self._homes.get(trial)
        slot = Slot(home if home in free else min(free, key=self.taken), sweep, limit)
        self._slots[slot.trainer].append(slot)
        if trial is not None:
            self._remember(trial, slot.trainer)
        return slot

    def _remember(self, trial: TrialKey, trainer: Trainer) -> None:
        self._homes[trial] = trainer
        self._homes.move_to_end(trial)
        if len(self._homes) > _REMEMBERED:
            self._homes.popitem(last=False)

    def settle(self, slot: Slot, packed: bool, pack_limit: int | None) -> None:
        """Record whether a trial, and so its sweep, trains in packs; a packed one makes room for others."""
        self._packed[slot.sweep] = self._packs[slot.trainer] = packed
        slot.limit = pack_limit if packed else 1

    def begin(self, slot: Slot) -> None:
        """Record that a trial makes steps: a trainer that came later is ready for one more."""
        if slot.trainer in self._fresh:
            self._fresh[slot.trainer] += 1

    def leave(self, slot: Slot) -> None:
        """Release a slot."""
        self._slots[slot.trainer].remove(slot)

    def add(self, trainer: Trainer) -> None:
        """Add a trainer, of which is assumed what is known about the others.

        At first it has one slot: it traces and compiles what the others have, and trials would wait for that.
        """
        self._fresh[trainer] = 1
        self._packs[trainer] = any(self._packs.values())
        self._slots[trainer] = []

    def drop(self, trainer: Trainer) -> None:
        """Remove a trainer in which nothing trains."""
        self._packs.pop(trainer, None)
        self._fresh.pop(trainer, None)
        for trial in [trial for trial, home in self._homes.items() if home is trainer]:
            del self._homes[trial]
        del self._slots[trainer]

    def _slots_of(self, trainer: Trainer) -> int:
        if trainer.leaving:
            return len(self._slots[trainer])
        return self._width_of(trainer) if self._packs.get(trainer, False) else 1

    def _width_of(self, trainer: Trainer) -> int:
        return min(self.width, self._fresh.get(trainer, self.width))

    def _has_room(self, trainer: Trainer, limit: int | None) -> bool:
        limits = [self._width_of(trainer), limit, *(slot.limit for slot in self._slots[trainer])]
        return len(self._slots[trainer]) < min(number for number in limits if number is not None)

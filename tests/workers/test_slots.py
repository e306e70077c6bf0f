"""Which trials may share a trainer, and how many hints the worker may take."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from kerasweep.jobs.trial import TrialKey
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.slots import Slot, Slots
from kerasweep.workers.trainers import Trainer


def trainer(name: str = "cpu 0") -> Trainer:
    made = Trainer(DeviceSet(name, (), 1), "unused", lambda: None)
    made.ready = True
    return made


@pytest.fixture
def one() -> Trainer:
    return trainer()


@pytest.fixture
def slots(one: Trainer) -> Slots:
    return Slots([one], 4)


def take_slot(slots: Slots, sweep: str = "a", pack_limit: int | None = None) -> Slot:
    slot = slots.take(sweep, pack_limit)
    assert slot is not None
    return slot


def test_a_first_trial_trains_alone_until_it_is_known_to_be_packed(slots: Slots) -> None:
    first = take_slot(slots)
    assert (slots.take("a", None), slots.capacity, slots.full) == (None, 1, True)
    slots.settle(first, True, None)
    others = [slots.take("a", None) for _ in range(4)]
    assert [other is not None for other in others] == [True, True, True, False]
    assert (slots.capacity, slots.full) == (4, True)


def test_what_trains_by_fit_keeps_its_trainer_and_leaves_hints_to_others(slots: Slots) -> None:
    first = take_slot(slots)
    slots.settle(first, False, None)
    assert (slots.take("a", None), slots.capacity) == (None, 1)
    slots.leave(first)
    assert not slots.full
    assert take_slot(slots).limit == 1


def test_a_suspect_trains_with_no_more_than_its_limit(slots: Slots) -> None:
    slots.settle(take_slot(slots), True, None)
    suspect = take_slot(slots, pack_limit=2)
    assert slots.take("a", None) is None
    slots.leave(suspect)
    take_slot(slots)
    assert slots.take("a", 2) is None
    assert slots.take("a", None) is not None


def test_a_sweep_that_nobody_knows_waits_for_an_empty_trainer(slots: Slots) -> None:
    known = take_slot(slots)
    slots.settle(known, True, None)
    assert slots.take("b", None) is None
    slots.leave(known)
    assert take_slot(slots, "b").limit == 1


def test_trials_spread_over_the_trainers(one: Trainer) -> None:
    two = trainer("cpu 1")
    slots = Slots([one, two], 4)
    for _ in range(2):
        slots.settle(take_slot(slots), True, None)
    assert {take_slot(slots).trainer for _ in range(2)} == {one, two}
    assert slots.capacity == 8


@pytest.mark.parametrize("reason", ["ready", "retiring", "leaving"])
def test_a_trainer_that_takes_no_runs_has_no_slots(slots: Slots, one: Trainer, reason: str) -> None:
    setattr(one, reason, not getattr(one, reason))
    assert slots.take("a", None) is None


def test_a_trainer_that_comes_later_gets_a_slot_with_each_trial_that_trains(slots: Slots) -> None:
    slots.settle(take_slot(slots), True, None)
    two = trainer("cpu 1")
    slots.add(two)
    assert (slots.capacity, slots.trainers[1]) == (5, two)
    first = take_slot(slots)
    assert first.trainer is two
    assert {take_slot(slots).trainer for _ in range(3)} == set(slots.trainers) - {two}
    assert slots.take("a", None) is None
    slots.begin(first)
    assert slots.capacity == 6
    assert take_slot(slots).trainer is two
    assert slots.take("a", None) is None
    for _ in range(3):
        slots.begin(first)
    assert slots.capacity == 8
    for slot in list(slots._slots[two]):
        slots.leave(slot)
    slots.drop(two)
    assert slots.capacity == 4


def test_a_trial_goes_back_to_the_trainer_where_it_trained(one: Trainer) -> None:
    two = trainer("cpu 1")
    slots, key = Slots([one, two], 4), TrialKey("a", 7)
    for _ in range(2):
        slots.settle(take_slot(slots), True, None)
    waits = slots.take("a", None, key)
    assert waits is not None
    slots.leave(waits)
    slots.settle(take_slot(slots), True, None)  # now the other trainer has more room
    again = slots.take("a", None, key)
    assert again is not None
    assert again.trainer is waits.trainer
    waits.trainer.retiring = True
    elsewhere = slots.take("a", None, key)
    assert elsewhere is not None
    assert elsewhere.trainer is not waits.trainer


def test_a_trainer_that_is_gone_is_nobodys_home(one: Trainer) -> None:
    two = trainer("cpu 1")
    slots, gone = Slots([one], 1), ref(two)
    slots.leave(take_slot(slots))
    slots.add(two)
    found = [slots.take("a", None, TrialKey("a", number)) for number in range(2)]
    for slot in filter(None, found):
        slots.leave(slot)
    slots.drop(two)
    del two, found, slot
    gc.collect()
    assert gone() is None


def test_a_trainer_that_is_to_go_keeps_whom_it_has_and_takes_no_hints(slots: Slots, one: Trainer) -> None:
    slots.settle(take_slot(slots), True, None)
    last = take_slot(slots)
    one.leaving = True
    assert (slots.capacity, slots.take("a", None)) == (2, None)
    slots.leave(last)
    assert slots.capacity == 1

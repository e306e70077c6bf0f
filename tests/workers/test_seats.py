"""Who may sit in a trainer together, and how many hints that is."""

from __future__ import annotations

import pytest

from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.seats import Seat, Seats
from kerasweep.workers.trainers import Trainer


def trainer(name: str = "cpu 0") -> Trainer:
    made = Trainer(DeviceSet(name, (), 1), "unused", lambda: None)
    made.ready = True
    return made


@pytest.fixture
def one() -> Trainer:
    return trainer()


@pytest.fixture
def seats(one: Trainer) -> Seats:
    return Seats([one], 4)


def sit(seats: Seats, sweep: str = "a", pack_limit: int | None = None) -> Seat:
    seat = seats.take(sweep, pack_limit)
    assert seat is not None
    return seat


def test_a_first_trial_sits_alone_until_it_is_known_to_be_packed(seats: Seats) -> None:
    first = sit(seats)
    assert (seats.take("a", None), seats.capacity, seats.full) == (None, 1, True)
    seats.settle(first, True, None)
    others = [seats.take("a", None) for _ in range(4)]
    assert [other is not None for other in others] == [True, True, True, False]
    assert (seats.capacity, seats.full) == (4, True)


def test_what_trains_by_fit_keeps_its_trainer_and_leaves_hints_to_others(seats: Seats) -> None:
    first = sit(seats)
    seats.settle(first, False, None)
    assert (seats.take("a", None), seats.capacity) == (None, 1)
    seats.leave(first)
    assert not seats.full
    assert sit(seats).limit == 1


def test_a_suspect_sits_with_no_more_than_its_limit(seats: Seats) -> None:
    seats.settle(sit(seats), True, None)
    suspect = sit(seats, pack_limit=2)
    assert seats.take("a", None) is None
    seats.leave(suspect)
    sit(seats)
    assert seats.take("a", 2) is None
    assert seats.take("a", None) is not None


def test_a_sweep_that_nobody_knows_waits_for_an_empty_trainer(seats: Seats) -> None:
    known = sit(seats)
    seats.settle(known, True, None)
    assert seats.take("b", None) is None
    seats.leave(known)
    assert sit(seats, "b").limit == 1


def test_trials_spread_over_the_trainers(one: Trainer) -> None:
    two = trainer("cpu 1")
    seats = Seats([one, two], 4)
    for _ in range(2):
        seats.settle(sit(seats), True, None)
    assert {sit(seats).trainer for _ in range(2)} == {one, two}
    assert seats.capacity == 8


@pytest.mark.parametrize("reason", ["ready", "retiring", "leaving"])
def test_a_trainer_that_takes_no_runs_has_no_seats(seats: Seats, one: Trainer, reason: str) -> None:
    setattr(one, reason, not getattr(one, reason))
    assert seats.take("a", None) is None


def test_a_trainer_that_comes_later_is_thought_to_pack_as_the_others_do(seats: Seats) -> None:
    seats.settle(sit(seats), True, None)
    two = trainer("cpu 1")
    seats.add(two)
    assert (seats.capacity, seats.trainers[1]) == (8, two)
    assert sit(seats).trainer is two
    seats.leave(seats._seats[two][0])
    seats.drop(two)
    assert seats.capacity == 4


def test_a_trainer_that_is_to_go_keeps_whom_it_has_and_takes_no_hints(seats: Seats, one: Trainer) -> None:
    seats.settle(sit(seats), True, None)
    last = sit(seats)
    one.leaving = True
    assert (seats.capacity, seats.take("a", None)) == (2, None)
    seats.leave(last)
    assert seats.capacity == 1

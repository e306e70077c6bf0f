"""Estimating how many trials have one graph, from those present at the same time."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from kerasweep.workers.trainer.pack.company import Company


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("graphs", "sharers"),
    [
        ("a", 1),
        ("aaaaaaaa", 60),
        ("abcdefgh", 1),
        ("aabbccaa", 20),
        ("aab", 30),
    ],
)
def test_what_is_here_tells_of_what_comes(graphs: str, sharers: int) -> None:
    company = Company()
    with ExitStack() as here:
        for number, graph in enumerate(graphs):
            here.enter_context(company.joined("s1"))
            company.tell("s1", f"s1/{number}/1", graph)
        assert company.sharers("s1", 60, 60, nothing) == sharers


def test_a_run_that_is_bound_anew_counts_once() -> None:
    company = Company()
    with company.joined("s1"):
        company.tell("s1", "s1/0/1", "a")
        company.tell("s1", "s1/0/1", "a")
        assert company.sharers("s1", 60, 60, nothing) == 1


def test_those_that_still_build_are_waited_for() -> None:
    company = Company()
    waits = threading.Event()
    found: list[int] = []
    with company.joined("s1"), company.joined("s1"):
        company.tell("s1", "s1/0/1", "a")
        asking = threading.Thread(target=lambda: found.append(company.sharers("s1", 60, 60, waits.set)))
        asking.start()
        assert waits.wait(10)
        company.tell("s1", "s1/1/1", "a")
        asking.join(10)
    assert found == [60]


def test_one_that_leaves_is_not_waited_for_and_other_sweeps_do_not_count() -> None:
    company = Company()
    with company.joined("s1"), company.joined("s2"):
        with company.joined("s1"):
            pass
        company.tell("s2", "s2/0/1", "a")
        company.tell("s1", "s1/0/1", "a")
        assert company.sharers("s1", 2, 2, nothing) == 1
    with company.joined("s1"):
        company.tell("s1", "s1/1/1", "b")
        assert company.sharers("s1", 2, 2, nothing) == 1, "what left long ago tells nothing"


def test_a_trial_that_comes_first_waits_for_the_next_one() -> None:
    """On a warm worker the first trial asks before the second is there; alone it would show nothing."""
    company = Company()
    waits = threading.Event()
    found: list[int] = []
    with ExitStack() as here:
        here.enter_context(company.joined("s1"))
        company.tell("s1", "s1/0/1", "a")
        asking = threading.Thread(target=lambda: found.append(company.sharers("s1", 60, 2, waits.set)))
        asking.start()
        assert waits.wait(10)
        here.enter_context(company.joined("s1"))
        company.tell("s1", "s1/1/1", "a")
        asking.join(10)
    assert found == [60]


def test_nobody_is_waited_for_where_enough_is_known() -> None:
    company = Company()
    with company.joined("s1"), company.joined("s1"), company.joined("s1"):
        company.tell("s1", "s1/0/1", "a")
        assert company.sharers("s1", 60, 1, pytest.fail) == 1
        company.tell("s1", "s1/1/1", "a")
        assert company.sharers("s1", 60, 40, pytest.fail) == 60
    with company.joined("s2"):
        company.tell("s2", "s2/0/1", "a")
        assert company.sharers("s2", 1, 2, pytest.fail) == 1, "the sweep has no other trial"

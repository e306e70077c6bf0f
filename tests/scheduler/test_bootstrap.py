"""The statistics of `certify`: known answers, ties, one seed, values that are missing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kerasweep.jobs.trial import Failure, FailureClass
from kerasweep.scheduler.client.wording import share
from kerasweep.scheduler.evidence.bootstrap import bounded, chances, paired_seeds
from kerasweep.scheduler.evidence.certificate import Contender, judge


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def contender(trial: int, values: list[float | None], chance: float | None, failed: int = 0) -> Contender:
    known = [value for value in values if value is not None]
    mean = sum(known) / len(known) if known else None
    failures = ((7, Failure(FailureClass.DIVERGED, "the loss is NaN")),) * failed
    return Contender(trial, 0.1, {}, tuple(range(len(values))), tuple(values), mean, 0.01, chance, failures)


def test_what_is_always_best_is_best_with_certainty() -> None:
    values = [[0.1, 0.2, 0.3, 0.4], [0.11, 0.21, 0.31, 0.41]]
    assert chances(values, rng()) == (1.0, 0.0)
    assert chances(values, rng(), maximize=True) == (0.0, 1.0)


def test_pairs_tell_apart_what_means_alone_do_not() -> None:
    """Seeds differ by far more than the variants do; each is better by a little under every one."""
    hard = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4]
    better = [value - 0.01 for value in hard]
    assert chances([hard, better], rng()) == (0.0, 1.0)
    shuffled = better[3:] + better[:3]
    assert 0.2 < chances([hard, shuffled], rng())[1] < 0.8


def test_equal_variants_share() -> None:
    assert chances([[0.3, 0.1, 0.2]] * 2, rng()) == (0.5, 0.5)
    found = chances([[0.3, 0.1, 0.2], [0.3, 0.1, 0.2], [0.9, 0.9, 0.9]], rng())
    assert found == (0.5, 0.5, 0.0)


def test_the_known_answer_for_two_seeds() -> None:
    """Of four equally likely resamples, each wins one, and two give a tie."""
    found = chances([[0.0, 1.0], [1.0, 0.0]], rng())
    assert found[0] == pytest.approx(0.5, abs=0.02)
    # the first wins both mixed resamples and one of the pure ones
    assert chances([[0.0, 1.0], [1.5, 0.0]], rng())[0] == pytest.approx(0.75, abs=0.02)


def test_the_same_generator_gives_the_same_probabilities() -> None:
    values = [list(row) for row in np.random.default_rng(1).random((3, 10))]
    assert chances(values, rng()) == chances(values, rng())
    assert sum(chances(values, rng())) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("seeds", "most", "least"),
    [(2, "0.25", "0.75"), (3, "0.13", "0.87"), (4, "0.07", "0.93"), (5, "0.04", "0.96"),
     (7, "0.008", "0.992"), (10, "0.001", "0.999"), (40, "0.001", "0.999")],
)  # fmt: skip
def test_no_probability_is_told_nearer_to_certainty_than_that_the_seeds_agree_by_luck(
    seeds: int, most: str, least: str
) -> None:
    low, high = bounded(0.0, seeds), bounded(1.0, seeds)
    assert (low, high) == (0.5**seeds, 1 - 0.5**seeds)
    assert (share(low, seeds), share(high, seeds)) == (f"at most {most}", f"at least {least}")
    assert bounded(0.6, seeds) == 0.6


def test_a_probability_is_not_rounded_to_certainty() -> None:
    assert [share(one, 20) for one in (0.004, 0.5, 0.88, 0.996)] == ["0.004", "0.50", "0.88", "0.996"]


@pytest.mark.parametrize(("seeds", "stands"), [(4, None), (5, True)])
def test_a_verdict_takes_five_seeds(seeds: int, stands: bool | None) -> None:
    chance = bounded(1.0, seeds)
    rows = [contender(7, [0.1] * seeds, chance), contender(3, [0.2] * seeds, 1 - chance)]
    assert judge(rows, seeds, over=True)[0] is stands
    found = judge(rows[::-1], seeds, over=True)
    assert found[0] is (None if stands is None else False)
    assert ("(4 seeds cannot tell, it takes 5)" in found[1]) is (stands is None)


def test_seeds_without_every_value_are_left_out() -> None:
    values = [[0.1, None, 0.3, 0.4, 0.5], [0.1, 0.2, math.nan, math.inf, 0.5]]
    assert paired_seeds(values) == [0, 4]
    assert paired_seeds([[None, None]]) == []


@pytest.mark.parametrize(
    ("first", "second", "failed", "stands", "told"),
    [
        (0.97, 0.03, 0, True, "trial 7 stands: it is the best of 2 with probability 0.97 ("),
        (0.60, 0.40, 0, None, "it is open whether trial 7 stands: it is the best of 2 with probability 0.60"),
        (0.40, 0.60, 0, None, "it is open whether trial 7 stands: trial 3 is the best with probability 0.60"),
        (0.05, 0.5, 0, False, "trial 7 does not stand: trial 3 is the best with probability 0.50 ("),
        (0.0, 1.0, 0, False, "trial 7 does not stand: trial 3 is the best with probability at least 0.998 ("),
        (0.97, 0.03, 1, None, "but failed under 1 of 2 seeds"),
    ],
)
def test_whether_the_winner_stands(
    first: float, second: float, failed: int, stands: bool | None, told: str
) -> None:
    found = judge([contender(7, [0.1, 0.2], first, failed), contender(3, [0.2, 0.3], second)], 9, over=True)
    assert found[0] is stands
    assert told in found[1]


@pytest.mark.parametrize(
    ("values", "paired", "told"),
    [
        ([[0.1, 0.2]], 2, "trial 0 has 0.15000 ± 0.01 over 2 seeds; there is no other variant"),
        ([[0.1], [0.2]], 1, "it is open whether trial 0 stands: only one seed gave every variant a value"),
        ([[None], [0.2]], 0, "no seed gave every variant a value"),
    ],
)
def test_what_leaves_it_open(values: list[list[float | None]], paired: int, told: str) -> None:
    found = judge([contender(n, row, None) for n, row in enumerate(values)], paired, over=True)
    assert found[0] is None
    assert told in found[1]
    assert judge([contender(0, [0.1], None)], 1, over=False)[1].startswith("so far, trial 0 has")

"""Stopping rules: what they decide on tables of curves, in simulated time, whoever is faster."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from recorded_curves import NAMES, Simulation, best_so_far

from kerasweep.jobs.sweepfile.stopping import Halving, Median, Stopping
from kerasweep.scheduler.stopping import StoppingRule, Track
from kerasweep.scheduler.stopping.halving import HalvingRule
from kerasweep.scheduler.stopping.median import MedianRule
from kerasweep.scheduler.stopping.patience import exhausted_at

HALVING = HalvingRule(Halving().settled(27), 27, maximize=False)
EARLY = HalvingRule(Halving(min_epochs=1), 27, maximize=False)
MEDIAN = MedianRule(Median(min_epochs=9), 27, maximize=False)
SEEDS = 50


def order(seed: int, trials: int = 256) -> list[int]:
    return list(map(int, np.random.default_rng(seed).permutation(trials)))


@pytest.mark.parametrize(
    ("name", "rule"),
    [*((name, HALVING) for name in NAMES), *((name, EARLY) for name in NAMES if name != "wide")],
)
def test_halving_finds_one_of_the_best_with_few_epochs(name: str, rule: HalvingRule) -> None:
    """The curves of `wide` cross after their first epoch, so they are compared from the third on."""
    curves = best_so_far(name)
    final = np.sort(curves[:, -1][np.isfinite(curves[:, -1])])
    runs = [Simulation(curves, order(seed), rule) for seed in range(SEEDS)]
    found = [run.run() for run in runs]
    spent = int(median(run.epochs for run in runs))
    assert spent <= 0.3 * curves.size
    assert median(found) <= final[int(0.02 * len(curves)) - 1]
    # Nor is it worse than stopping all after as many epochs as it spent, and training the best of them on.
    for epochs in range(1, -(-spent // len(curves)) + 1):
        best = int(np.nanargmin(curves[:, epochs - 1]))
        assert median(found) <= curves[best, -1], epochs


@pytest.mark.parametrize("rule", [EARLY, MEDIAN, HalvingRule(Halving(cohort=9, brackets=2), 27, False)])
def test_neither_slots_nor_speed_show_in_the_decisions(rule: StoppingRule) -> None:
    curves, trials = best_so_far("mlp"), order(3, 60)
    runs = [
        Simulation(curves, trials, rule, slots=1),
        Simulation(curves, trials, rule, slots=8),
        Simulation(curves, trials, rule, slots=5, pace=lambda number: 1.0 + number * 7 % 11),
    ]
    assert len({run.run() for run in runs}) == 1
    assert len({(run.epochs, tuple(sorted(run.decisions))) for run in runs}) == 1
    assert runs[0].decisions


def standing(values: dict[int, float], rung: int, **others: Track) -> dict[int, Track]:
    known = {number: Track(number, {rung: value}, rung) for number, value in values.items()}
    return known | {curve.number: curve for curve in others.values()}


RULE = HalvingRule(Halving(cohort=6, rungs=[2, 4]), 9, maximize=False)
SIX = {0: 0.5, 1: 0.1, 2: 0.1, 3: 0.7, 4: 0.9, 5: 0.3}


def test_the_best_go_on_and_of_equals_the_lower_number() -> None:
    rulings = RULE.decide(standing(SIX, 2), 6)
    assert [(one.number, one.next_rung) for one in rulings if one.goes_on] == [(1, 4), (2, 4)]
    assert rulings[2].reason == "number 2 of 6 at epoch 2, of which the best 2 go on"
    ties = standing(dict.fromkeys(range(6), 0.5), 2)
    assert [one.number for one in RULE.decide(ties, 6) if one.goes_on] == [0, 1]


def test_more_is_better_where_the_goal_says_so() -> None:
    rule = HalvingRule(Halving(cohort=6, rungs=[2]), 9, maximize=True)
    assert [one.number for one in rule.decide(standing(SIX, 2), 6) if one.goes_on] == [3, 4]


def test_a_cohort_waits_for_each_of_its_trials() -> None:
    assert RULE.decide(standing(SIX, 2, late=Track(3)), 6) == []
    assert RULE.decide(standing({n: v for n, v in SIX.items() if n != 5}, 2), 6) == []


def test_one_that_failed_has_no_rank_and_one_that_ended_by_itself_has_one() -> None:
    rulings = RULE.decide(standing(SIX, 2, failed=Track(1, ended=True)), 6)
    assert [one.number for one in rulings if one.goes_on] == [2, 5]
    rulings = RULE.decide(standing(SIX, 2, done=Track(4, ended=True, value=0.05)), 6)
    assert [one.number for one in rulings if one.goes_on] == [1]


def test_a_trial_that_comes_late_is_compared_with_those_that_were() -> None:
    """Its cohort was decided while it had failed; it was tried again since."""
    gone = {n: Track(n, {2: v}, ended=True) for n, v in SIX.items() if n not in (1, 2)}
    on = {n: Track(n, {2: SIX[n], 4: SIX[n]}, ended=True, value=SIX[n]) for n in (1,)}
    for value, goes_on in ((0.2, True), (0.4, False)):
        (ruling,) = RULE.decide(gone | on | {2: Track(2, {2: value}, 2)}, 6)
        assert (ruling.number, ruling.goes_on) == (2, goes_on)


def test_the_last_cohort_is_as_large_as_the_budget_leaves_it() -> None:
    rulings = RULE.decide(standing({6: 0.5, 7: 0.1, 8: 0.2}, 2), 9)
    assert [one.number for one in rulings if one.goes_on] == [7]


def test_two_cohorts_are_under_way_and_points_are_drawn_from_those_before() -> None:
    assert [RULE.open_until(settled, 30) for settled in (0, 5, 6, 29)] == [12, 12, 18, 30]
    assert [RULE.learned(number) for number in (0, 11, 12, 18)] == [0, 0, 6, 12]


def test_brackets_take_turns_and_begin_later() -> None:
    rule = HalvingRule(Halving(cohort=27, brackets=3), 27, maximize=False)
    cohorts = [rule.cohort(index) for index in range(4)]
    assert [one.rungs for one in cohorts] == [(1, 3, 9), (3, 9), (9,), (1, 3, 9)]
    assert [one.stop - one.start for one in cohorts] == [27, 12, 6, 27]
    assert [rule.cohort_of(number).index for number in (0, 26, 27, 44, 45, 71, 72)] == [0, 0, 1, 2, 3, 3, 4]


def test_trials_are_compared_twice_by_default() -> None:
    assert Halving().settled(27) == Halving(min_epochs=3, cohort=27)
    assert Halving().settled(100).epochs_at(100) == (12, 36)
    assert Halving(factor=4).settled(64).epochs_at(64) == (4, 16)
    assert Halving().settled(5).epochs_at(5) == (1, 3)
    assert Halving(brackets=3).settled(27).epochs_at(27) == (1, 3, 9)
    assert Halving(rungs=[2]).settled(27) == Halving(rungs=[2], cohort=27)
    assert Halving(min_epochs=2).settled(27) == Halving(min_epochs=2, cohort=27)
    assert Stopping(halving=Halving()).settled(27).halving == Halving(min_epochs=3, cohort=27)
    assert Stopping(patience=3).settled(27) == Stopping(patience=3)


def test_cohorts_are_small_by_default_where_the_method_learns_from_few_trials() -> None:
    sizes = [Halving().settled(27, trials).cohort for trials in (None, 20, 107, 108, 256)]
    assert sizes == [27, 9, 9, 27, 27]
    assert [Halving(factor=f).settled(27, 54).cohort for f in (2, 4, 6, 30)] == [4, 16, 27, 30]
    assert Halving(cohort=27).settled(27, 54).cohort == 27
    unrecorded, recorded = (HalvingRule(one, 27, maximize=False) for one in (Halving(), Halving(cohort=27)))
    assert [unrecorded.cohort(n) for n in (0, 1)] == [recorded.cohort(n) for n in (0, 1)]


def test_what_a_trial_trains_on_average_is_known_beforehand() -> None:
    assert Halving().expected_epochs(27) == 1 + 2 / 3 + 6 / 9 + 18 / 27
    assert Halving(rungs=[2, 4], factor=4).expected_epochs(8) == 2 + 2 / 4 + 4 / 16
    assert Halving(brackets=2).expected_epochs(9) == ((1 + 2 / 3 + 6 / 9) + (3 + 6 / 3)) / 2
    assert Halving(min_epochs=5).expected_epochs(4) == 4
    assert Median(min_epochs=2).expected_epochs(10) == 6
    assert Stopping(patience=3).expected_epochs(10) == 10


def test_the_median_of_lower_numbers_decides() -> None:
    rule = MedianRule(Median(min_epochs=2, startup_trials=3), 9, maximize=False)
    curves = {n: Track(n, {2: value}, ended=True, value=value) for n, value in enumerate([0.1, 0.2, 0.3])}
    rulings = rule.decide(curves | {3: Track(3, {2: 0.25}, 2), 4: Track(4, {2: 0.2}, 2)}, 9)
    assert [(one.number, one.goes_on, one.next_rung) for one in rulings] == [(3, False, None), (4, True, 4)]
    assert rulings[0].reason == "0.25 at epoch 2, the median of 3 before it is 0.2"
    assert rule.decide(curves | {1: Track(1), 3: Track(3, {2: 0.25}, 2)}, 9) == []


def test_patience_counts_trials_that_brought_nothing() -> None:
    assert exhausted_at([0.5, 0.6, None, 0.4, 0.4, 0.7], 3, maximize=False) is None
    assert exhausted_at([0.5, 0.6, None, 0.5, 0.1], 3, maximize=False) == 4
    assert exhausted_at([0.5, 0.6, 0.5, 0.6], 2, maximize=True) == 4

"""Search methods: what each guarantees, and what all of them guarantee."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasweep.jobs.seeds import suggestion_rng
from kerasweep.jobs.sweepfile.dimension import identity
from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.sweepfile.spec import SweepSpec, parse_spec
from kerasweep.jobs.trial import FailureClass, TrialState
from kerasweep.scheduler.samplers import Observation, Suggestion, sampler_for
from kerasweep.scheduler.samplers.teaching import BEST, MOST, Teaching

FINITE: dict[str, Any] = {
    "units": {"values": [16, 32, 64]},
    "rate": {"distribution": "q_log_uniform", "min": 0.1, "max": 0.4, "q": 0.1},
    "depth": {"distribution": "int_uniform", "min": 1, "max": 2},
    "dropout": {"values": [0.1, 0.2], "when": {"depth": [2]}},
}  # 3 × 4 × (1 + 2) = 36 points
MIXED: dict[str, Any] = {
    "rate": {"distribution": "log_uniform", "min": 1e-4, "max": 1.0},
    "x": {"distribution": "uniform", "min": -1.0, "max": 1.0},
    "layers": {"distribution": "int_log_uniform", "min": 1, "max": 64},
    "step": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
    "fine": {"distribution": "q_log_uniform", "min": 0.01, "max": 1.0, "q": 0.01},
    "kind": {"values": [None, "relu", {"leaky": 0.1}, True]},
    "fixed": 3,
    "slope": {"distribution": "uniform", "min": 0.0, "max": 1.0, "when": {"kind": ["relu"]}},
}


ORDERED: dict[str, Any] = {
    "rate": {"distribution": "log_uniform", "min": 1e-4, "max": 1.0},
    "layers": {"distribution": "int_log_uniform", "min": 1, "max": 64},
    "fine": {"distribution": "q_log_uniform", "min": 0.01, "max": 1.0, "q": 0.01},
    "units": {"values": [16, 32, 64]},
    "fixed": "text",
}


def sweep(
    method: Any, parameters: Any, seed: int = 7, goal: str = "minimize", max_trials: int = 1000
) -> SweepSpec:
    return parse_spec(
        {
            "name": "a",
            "job": "train.py",
            "metric": {"name": "loss", "goal": goal},
            "method": method,
            "parameters": parameters,
            "training": {"epochs": {"values": [3, 5]}} if parameters is MIXED else {"epochs": 3},
            "seed": seed,
            "budget": {"max_trials": max_trials},
        }
    )


SPECS = {
    "grid": sweep("grid", FINITE),
    "grid, cut": sweep("grid", FINITE, max_trials=20),
    "grid, points": sweep("grid", MIXED, max_trials=20),
    "random, finite": sweep("random", FINITE),
    "random, mixed": sweep("random", MIXED),
    "qmc, finite": sweep("qmc", FINITE),
    "qmc, mixed": sweep("qmc", MIXED),
    "auto, mixed": sweep({"name": "auto", "then": "tpe"}, MIXED, max_trials=24),
    "cmaes": sweep({"name": "cmaes", "generation": 4}, ORDERED),
    "tpe, finite": sweep({"name": "tpe", "startup_trials": 4, "parallel": 3}, FINITE),
    "tpe, mixed": sweep({"name": "tpe", "startup_trials": 4, "parallel": 3}, MIXED),
    "tpe, no start": sweep({"name": "tpe", "startup_trials": 0, "parallel": 1}, MIXED),
}
every_method = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
FINITES = ["grid", "grid, cut", "random, finite", "qmc, finite", "tpe, finite"]
finite_methods = pytest.mark.parametrize("name", FINITES)


def loss(params: Params) -> float:
    """Return a value that depends on the values alone."""
    return sum(float(value) ** 2 for value in params.values() if isinstance(value, int | float))


def ended(number: int, params: Params) -> Observation:
    return Observation(number, params, TrialState.COMPLETED, loss(params))


def run(
    spec: SweepSpec,
    trials: int,
    end: Callable[[int, Params], Observation] = ended,
    pick: Callable[[Sequence[int]], int] = lambda running: running[0],
    wanted: Callable[[int], int] = lambda left: left,
) -> list[Params]:
    """Run a sweep: `pick` chooses which running trial ends next, `wanted` is how many are requested at a
    time.
    """
    observations: list[Observation] = []
    while True:
        count = wanted(trials - len(observations))
        for suggestion in sampler_for(spec).suggest(observations, count) if count else []:
            number = len(observations)
            observations.append(Observation(number, suggestion.params, TrialState.RUNNING))
        running = [trial.number for trial in observations if not trial.state.final]
        if not running:
            return [trial.params for trial in observations]
        number = pick(running)
        observations[number] = end(number, observations[number].params)


@every_method
def test_every_suggestion_is_a_point_of_the_space(spec: SweepSpec) -> None:
    dimensions = spec.space().dimensions
    for params in run(spec, 24):
        assert [name for name in dimensions if spec.space().exists(name, params)] == list(params)
        for name, value in params.items():
            raw = dimensions[name].model_dump()
            grid = dimensions[name].grid()
            assert raw["min"] <= value <= raw["max"] if grid is None else dimensions[name].holds(value)
            assert type(value) in (int, float, str, bool, dict, type(None))


@every_method
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_neither_speed_nor_the_size_of_the_questions_shows(spec: SweepSpec, data: st.DataObject) -> None:
    def pick(running: Sequence[int]) -> int:
        return data.draw(st.sampled_from(running))

    def wanted(left: int) -> int:
        return data.draw(st.integers(min(1, left), left))

    assert run(spec, 12, pick=pick, wanted=wanted) == run(spec, 12)


@pytest.mark.parametrize("name", ["qmc, finite", "tpe, finite", "cmaes"])
def test_a_sampler_that_is_kept_suggests_what_a_new_one_does(name: str) -> None:
    kept, trials = sampler_for(SPECS[name]), list[Observation]()
    while len(trials) < 14:
        new = kept.suggest(trials, 2)
        assert new == sampler_for(SPECS[name]).suggest(trials, 2)
        trials += [ended(len(trials) + n, one.params) for n, one in enumerate(new)]
        if len(trials) == 8:
            trials[3] = Observation(3, trials[3].params, TrialState.FAILED, failure=FailureClass.DIVERGED)


def test_a_model_learns_from_the_best_and_the_newest() -> None:
    trials = [ended(number, {"x": (number * 37) % 401}) for number in range(401)]
    teaching = Teaching(maximize=False)
    for count in (50, 100, 101, 250, 401, 60):
        found = teaching.of_first(count, trials)
        ranked = sorted(trials[:count], key=lambda one: (one.value, one.number))[:BEST]
        others = [one for one in trials[:count] if one not in ranked][BEST - MOST :]
        assert found == [(one, one.value) for one in trials[:count] if one in ranked or one in others]
        assert len(found or ()) == min(count, MOST)


@every_method
def test_an_extended_sweep_is_the_longer_sweep(spec: SweepSpec) -> None:
    short, whole = run(spec, 8), run(spec, 16)
    assert whole[:8] == short
    observations = [ended(number, params) for number, params in enumerate(short)]
    assert sampler_for(spec).suggest(observations, 1)[0].params == whole[8]


@every_method
def test_the_records_json_changes_nothing(spec: SweepSpec) -> None:
    def through_json(number: int, params: Params) -> Observation:
        return ended(number, json.loads(json.dumps(params)))

    assert run(spec, 12, end=through_json) == run(spec, 12)


@pytest.mark.parametrize("name", [name for name in SPECS if name != "grid"])
def test_another_seed_is_another_sweep(name: str) -> None:
    spec = SPECS[name]
    assert run(spec.model_copy(update={"seed": 8}), 8) != run(spec, 8)


@finite_methods
def test_a_finite_space_is_tried_whole_and_nothing_twice(name: str) -> None:
    spec = SPECS[name]
    params = run(spec, 1000)
    assert sorted(map(identity, params)) == sorted(map(identity, spec.space().grid()))
    assert len(params) == spec.space().grid_size() == 36


def test_the_grid_goes_in_the_files_order_and_ends_with_the_budget() -> None:
    spec = SPECS["grid"]
    assert run(spec, 7) == list(spec.space().grid())[:7]
    assert sampler_for(spec).suggest([], 2) == [
        Suggestion({"units": 16, "rate": 0.1, "depth": 1}, "point 1 of 36 of the grid"),
        Suggestion({"units": 16, "rate": 0.1, "depth": 2, "dropout": 0.1}, "point 2 of 36 of the grid"),
    ]


def rounds(count: int, seed: int, **sizes: int) -> list[Params]:
    """Return the first points of a larger grid, whose values are numbers from 0."""
    parameters = {name: {"values": list(range(size))} for name, size in sizes.items()}
    return run(sweep("grid", parameters, seed, max_trials=count), count)


@pytest.mark.parametrize("seed", range(5))
def test_a_grid_that_is_cut_tries_every_value_about_equally_often(seed: int) -> None:
    sizes = {"a": 5, "b": 2, "c": 3, "d": 2}
    points = rounds(32, seed, **sizes)
    for count in range(2, 33):
        for name, size in sizes.items():
            often = Counter(point[name] for point in points[:count])
            assert min(often[value] for value in range(size)) >= count / size - 2
            assert max(often.values()) <= count / size + 2


def test_the_pairs_of_values_in_a_cut_grid_differ_too() -> None:
    points = rounds(32, 7, a=4, b=4, c=4)
    for one, other in ("ab", "bc", "ac"):
        assert len({(point[one], point[other]) for point in points}) >= 12


def test_conditional_values_come_in_a_cut_grid_in_their_proportion() -> None:
    points = run(sweep("grid", FINITE, max_trials=18), 18)
    assert Counter(point["depth"] for point in points) == {1: 6, 2: 12}
    assert min(Counter(point["units"] for point in points).values()) >= 5


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_cut_grid_comes_to_every_point_once(sizes: list[int], seed: int) -> None:
    total = math.prod(sizes)
    if total > 1:
        parameters = {f"p{place}": {"values": list(range(size))} for place, size in enumerate(sizes)}
        points = run(sweep("grid", parameters, seed, max_trials=total - 1), total)
        assert len({identity(point) for point in points}) == total


def test_a_cut_grid_of_any_size_begins_at_once() -> None:
    huge = {f"p{place}": {"distribution": "int_uniform", "min": 0, "max": 2**50} for place in range(30)}
    points = run(sweep("grid", huge, max_trials=20), 20)
    assert len({identity(point) for point in points}) == 20
    assert max(point["p3"] for point in points) > 2**49  # type: ignore[type-var]


def test_a_random_trial_is_drawn_from_its_own_stream() -> None:
    spec = SPECS["random, mixed"]
    assert run(spec, 30)[29] == spec.space().sample(suggestion_rng(spec.seed, 29))


def test_the_last_points_of_a_lopsided_space_are_found_at_once() -> None:
    steps = {"distribution": "q_log_uniform", "min": 0.001, "max": 1.0, "q": 0.001}
    spec = sweep("random", {"a": steps})
    assert len(run(spec, 1000, wanted=lambda left: left)) == 1000


def observed(count: int, state: TrialState, spec: SweepSpec) -> list[Observation]:
    starts = sampler_for(spec).suggest([], count)
    return [Observation(number, start.params, state) for number, start in enumerate(starts)]


def test_tpe_starts_with_the_draws_of_random_search() -> None:
    spec = SPECS["tpe, mixed"]
    first = sampler_for(spec).suggest([], 100)
    assert [suggestion.params for suggestion in first] == run(SPECS["random, mixed"], 4)
    assert first[0].reason == "random start 1 of 4"


@pytest.mark.parametrize(
    ("ends", "suggested"),
    [([], 0), ([0], 0), ([1, 2, 3], 0), ([0, 1], 1), ([0, 1, 3], 1), ([0, 1, 2], 2), ([0, 1, 2, 3], 3)],
)
def test_tpe_waits_for_the_trials_that_it_depends_on(ends: list[int], suggested: int) -> None:
    """Three may be undecided, including the new one: trial 4 waits for 0 and 1, trial 5 for 2 as well."""
    spec = SPECS["tpe, mixed"]
    trials = observed(4, TrialState.RUNNING, spec)
    for number in ends:
        trials[number] = ended(number, trials[number].params)
    suggestions = sampler_for(spec).suggest(trials, 10)
    assert len(suggestions) == suggested
    if suggested:
        assert suggestions[0].reason == "TPE on the results of 2 trials, with 2 undecided"


@pytest.mark.parametrize(
    "state", [TrialState.COMPLETED, TrialState.STOPPED, TrialState.FAILED, TrialState.CANCELLED]
)
def test_tpe_goes_on_whatever_became_of_the_trials(state: TrialState) -> None:
    spec = SPECS["tpe, mixed"]
    trials = observed(4, state, spec)
    assert len(sampler_for(spec).suggest(trials, 10)) == 3


def test_what_became_of_an_undecided_trial_does_not_show() -> None:
    spec = SPECS["tpe, mixed"]
    early = [
        ended(number, trial.params) for number, trial in enumerate(observed(4, TrialState.RUNNING, spec))
    ]
    running = [*early[:3], Observation(3, early[3].params, TrialState.RUNNING)]
    assert sampler_for(spec).suggest(early, 1) == sampler_for(spec).suggest(running, 1)


def test_maximising_is_minimising_the_negative() -> None:
    def negative(number: int, params: Params) -> Observation:
        return Observation(number, params, TrialState.COMPLETED, -loss(params))

    method = {"name": "tpe", "startup_trials": 4}
    assert run(sweep(method, MIXED, goal="maximize"), 12, end=negative) == run(sweep(method, MIXED), 12)


LINE = {"x": {"distribution": "uniform", "min": -1.0, "max": 1.0}}


def test_tpe_finds_better_values_than_random_search() -> None:
    def bests(method: Any) -> float:
        return sum(min(map(loss, run(sweep(method, LINE, seed), 30))) for seed in range(5))

    assert bests({"name": "tpe", "startup_trials": 5, "parallel": 2}) < bests("random") / 2


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_tpe_keeps_away_from_where_trials_diverge(value: float | None) -> None:
    def end(number: int, params: Params) -> Observation:
        if params["x"] < 0:  # type: ignore[operator]
            if value is None:
                return Observation(number, params, TrialState.FAILED, None, FailureClass.DIVERGED)
            return Observation(number, params, TrialState.COMPLETED, value)
        return Observation(number, params, TrialState.COMPLETED, 1.0)

    params = run(sweep({"name": "tpe", "startup_trials": 10, "parallel": 1}, LINE), 30, end=end)
    assert sum(float(trial["x"]) > 0 for trial in params[10:]) > 15  # type: ignore[arg-type]


PROCESS = """
import json, sys, warnings
warnings.simplefilter("error")
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.samplers import Observation, sampler_for
spec, trials = json.load(sys.stdin)
ended = [Observation(n, params, TrialState.COMPLETED, value) for n, (params, value) in enumerate(trials)]
suggested = sampler_for(SweepSpec.model_validate(spec)).suggest(ended, 3)
json.dump([[s.params, s.reason] for s in suggested], sys.stdout)
"""


@pytest.mark.parametrize("name", ["grid", "grid, points", "random, mixed", "tpe, mixed", "tpe, finite"])
def test_a_fresh_process_gives_the_same_suggestions_without_a_word(name: str) -> None:
    spec = SPECS[name]
    trials = [ended(number, params) for number, params in enumerate(run(spec, 9))]
    here = sampler_for(spec).suggest(trials, 3)
    given = [spec.model_dump(mode="json"), [[trial.params, trial.value] for trial in trials]]
    there = subprocess.run(
        [sys.executable, "-c", PROCESS], input=json.dumps(given), capture_output=True, text=True, check=True
    )
    assert json.loads(there.stdout) == [[suggestion.params, suggestion.reason] for suggestion in here]
    assert there.stderr == ""


def test_only_asking_tpe_loads_optuna() -> None:
    code = """
import json, sys
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.scheduler.samplers import sampler_for
for spec in json.load(sys.stdin):
    sampler_for(SweepSpec.model_validate(spec)).suggest([], 4)
print("optuna" in sys.modules)
"""
    specs = [spec.model_dump(mode="json") for name, spec in SPECS.items() if name != "tpe, no start"]
    out = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(specs), capture_output=True, text=True
    )
    assert (out.stdout, out.stderr) == ("False\n", "")

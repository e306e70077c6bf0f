"""The search space: bounds, draws, grids and conditions."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from kerasweep.jobs.sweepfile.block import rule_broken
from kerasweep.jobs.sweepfile.dimension import AnyDimension, Choice, Dimension, identity
from kerasweep.jobs.sweepfile.levels import LevelRange
from kerasweep.jobs.sweepfile.rules import RuleError
from kerasweep.jobs.sweepfile.space import Space

READ: TypeAdapter[Dimension] = TypeAdapter(AnyDimension)


def read(raw: Any) -> Dimension:
    return READ.validate_python(raw)


def space(**dimensions: Any) -> Space:
    return Space({name: read(raw) for name, raw in dimensions.items()})


def refusal(raw: Any) -> RuleError:
    with pytest.raises(ValidationError) as caught:
        read(raw)
    return rule_broken(caught.value)


finite = st.floats(-1e6, 1e6)
positive = st.floats(1e-9, 1e6)


@st.composite
def ranges(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    numbers = st.integers(-1000, 1000) if kind.startswith("int") else finite
    if "log" in kind:
        numbers = st.integers(1, 100_000) if kind.startswith("int") else positive
    low, high = sorted(draw(st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1])))
    raw = {"distribution": kind, "min": low, "max": high}
    if kind.startswith("q"):
        raw["q"] = max((high - low) * draw(st.floats(0.001, 1.0)), math.ulp(0.0))
    return raw


KINDS = ["uniform", "log_uniform", "int_uniform", "int_log_uniform", "q_uniform", "q_log_uniform"]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_draws_stay_within_the_bounds_and_are_plain(kind: str, data: st.DataObject) -> None:
    raw = data.draw(ranges(kind))
    dimension = read(raw)
    value = dimension.sample(np.random.default_rng(data.draw(st.integers(0, 99))))
    assert type(value) is (int if kind.startswith("int") else float)
    assert raw["min"] <= value <= raw["max"]
    assert dimension.grid() is None or dimension.holds(value)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_dimension_comes_back_from_json(kind: str, data: st.DataObject) -> None:
    dimension = read(data.draw(ranges(kind)))
    assert read(dimension.model_dump(mode="json")) == dimension


@pytest.mark.parametrize(("kind", "expected"), [("log_uniform", 0.01), ("uniform", 0.5)])
def test_half_of_the_draws_lie_below_the_middle_of_the_scale(kind: str, expected: float) -> None:
    rng = np.random.default_rng(0)
    dimension = read({"distribution": kind, "min": 1e-4, "max": 1.0})
    below = sum(dimension.sample(rng) < expected for _ in range(2000)) / 2000  # type: ignore[operator]
    assert below == pytest.approx(0.5, abs=0.05)


def test_log_steps_are_likelier_where_they_are_small() -> None:
    rng = np.random.default_rng(0)
    dimension = read({"distribution": "int_log_uniform", "min": 1, "max": 100})
    drawn = [dimension.sample(rng) for _ in range(4000)]
    # ln(1.5 / 0.5) / ln(100.5 / 0.5)
    assert drawn.count(1) / 4000 == pytest.approx(math.log(3) / math.log(201), abs=0.03)
    assert max(drawn) > 90  # type: ignore[type-var]


def test_steps_are_the_decimals_that_a_person_would_write() -> None:
    assert list(LevelRange(0.0, 1.0, 0.1)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert list(LevelRange(0.1, 0.5, 0.3)) == [0.1, 0.4]
    assert LevelRange(0.0, 1.0, 0.1)[-1] == 1.0
    assert LevelRange(0.0, 1.0, 0.1)[:2] == [0.0, 0.1]


@pytest.mark.parametrize(
    ("raw", "points"),
    [
        ({"distribution": "uniform", "min": 0.1, "max": 0.5}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"distribution": "uniform", "min": 0, "max": 1, "points": 2}, [0.0, 1.0]),
        ({"distribution": "log_uniform", "min": 1e-5, "max": 0.1}, [1e-5, 1e-4, 1e-3, 0.01, 0.1]),
        ({"distribution": "log_uniform", "min": 2, "max": 32, "points": 3}, [2.0, 8.0, 32.0]),
        ({"distribution": "uniform", "min": 1.0, "max": math.nextafter(1.0, 2)}, [1.0, math.nextafter(1, 2)]),
        ({"distribution": "int_uniform", "min": 1, "max": 4}, [1, 2, 3, 4]),
        ({"distribution": "int_uniform", "min": 1, "max": 10, "points": 3}, [1, 6, 10]),
        ({"distribution": "int_log_uniform", "min": 1, "max": 1000, "points": 4}, [1, 10, 100, 1000]),
        ({"distribution": "int_log_uniform", "min": 1, "max": 9, "points": 8}, [1, 2, 3, 4, 5, 6, 7, 9]),
        ({"distribution": "int_log_uniform", "min": 1, "max": 4, "points": 4.0}, [1, 2, 3, 4]),
    ],
)
def test_a_grid_tries_even_points_of_a_range(raw: Any, points: list[float]) -> None:
    assert list(read(raw).on_grid().grid() or ()) == points


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("q")])
@given(data=st.data())
def test_points_are_distinct_in_order_and_hold_both_bounds(kind: str, data: st.DataObject) -> None:
    raw = data.draw(ranges(kind))
    whole = kind.startswith("int")
    most = min(raw["max"] - raw["min"] + 1, 1000) if whole else 1000
    raw["points"] = data.draw(st.integers(2, most))
    points = list(read(raw).grid() or ())
    assert len(points) == raw["points"] if whole else 2 <= len(points) <= raw["points"]
    assert points == sorted(set(points))
    assert (points[0], points[-1]) == (raw["min"], raw["max"])
    assert {type(point) for point in points} == {int if whole else float}
    assert read(raw).holds(points[len(points) // 2])


@pytest.mark.parametrize(
    ("raw", "rule", "remedy"),
    [
        ({"values": [1, 2], "points": 2}, "got it beside 'values'", "every value that is listed"),
        ({"value": 1, "points": 2}, "got it beside 'value'", "every value that is listed"),
        (
            {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1, "points": 2},
            "got it beside 'q'",
            "every step",
        ),
        ({"distribution": "uniform", "min": 0, "max": 1, "points": 1}, "must be at least 2, got 1", "larger"),
        ({"distribution": "uniform", "min": 0, "max": 1, "points": 1e9}, "must be at most 1000", "smaller"),
        ({"distribution": "uniform", "min": 0, "max": 1, "points": 2.5}, "must be a whole number", "whole"),
        ({"distribution": "uniform", "min": 0, "max": 1, "points": True}, "must be a whole number", "whole"),
        (
            {"distribution": "int_uniform", "min": 1, "max": 3, "points": 4},
            "must be at most 3, the whole numbers from 1 to 3, got 4",
            "remove it: a grid tries them all",
        ),
        ({"distribution": "uniform", "min": 0, "max": 1, "point": 3}, "unknown key 'point'", "'points'?"),
    ],
)
def test_points_need_a_range_and_are_at_least_two(raw: Any, rule: str, remedy: str) -> None:
    found = refusal(raw)
    assert rule in found.rule
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ({"distribution": "uniform", "min": 3.0, "max": 1.0}, "min must be below max, got min=3.0, max=1.0"),
        ({"distribution": "int_uniform", "min": 3, "max": 3}, "min must be below max, got min=3, max=3"),
        ({"distribution": "log_uniform", "min": 0, "max": 1}, "min must be above 0 for a log distribution"),
        ({"distribution": "int_log_uniform", "min": -1, "max": 1}, "min must be above 0 for a log"),
        ({"distribution": "uniform", "min": -1.7e308, "max": 1.7e308}, "max - min must be finite"),
        ({"distribution": "uniform", "min": float("nan"), "max": 1}, "must be finite, got nan"),
        ({"distribution": "uniform", "min": 0, "max": float("inf")}, "must be finite, got inf"),
        ({"distribution": "uniform", "min": "0", "max": 1}, "must be a number, got '0'"),
        ({"distribution": "uniform", "min": False, "max": 1}, "must be a number, got false"),
        ({"distribution": "int_uniform", "min": 1.5, "max": 4}, "must be a whole number, got 1.5"),
        ({"distribution": "int_uniform", "min": 1, "max": 2**60}, "must be at most 9007199254740992"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "must be above 0.0, got 0"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 2}, "q must be at most max - min, got q=2.0"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 1e-300}, "q must leave at most 2^53 steps"),
        ({"distribution": "q_uniform", "min": 0, "max": 1}, "the key 'q' is missing"),
        ({"distribution": "uniform", "min": 0}, "the key 'max' is missing"),
        ({"distribution": "uniform", "min": 0, "mx": 1}, "unknown key 'mx'"),
        ({"distribution": "log_unifrom", "min": 0, "max": 1}, "unknown distribution 'log_unifrom'"),
        ({"distribution": ["uniform"]}, "unknown distribution [uniform]"),
        ({"values": []}, "must hold 1 or more, got []"),
        ({"values": [1, 1.0]}, "values must differ, got 1.0 twice"),
        ({"values": 3}, "must be a list, got 3"),
        ({"min": 0, "max": 1}, "a parameter says 'values', 'value' or 'distribution'"),
        ({}, "a parameter says 'values', 'value' or 'distribution', got {}"),
        ([1, 2], "a list of choices goes under 'values', got [1, 2]"),
    ],
)  # fmt: skip
def test_invalid_dimensions_are_refused(raw: Any, rule: str) -> None:
    found = refusal(raw)
    assert found.rule.startswith(rule)
    assert found.remedy


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [
        ({"distribution": "log_unifrom", "min": 0, "max": 1}, "did you mean 'log_uniform'?"),
        ({"vales": [1]}, "did you mean 'values'?"),
        (
            {"min": 0, "max": 1},
            f"say min, max and which: add `distribution: ...`, one of {', '.join(KINDS)}",
        ),
        ([1, 2], "write {values: [1, 2]}"),
        ("50, 100", "write {values: [50, 100]}, or {value: '50, 100'} if text is meant"),
        (
            {"distribution": "uniform", "min": 0, "max": 1, "q": 0.1},
            "write `distribution: q_uniform` for steps",
        ),
        (
            {"distribution": "log_uniform", "min": 1, "max": 2, "step": 0.1},
            "write `distribution: q_log_uniform` for steps",
        ),
        ({"distribution": "int_uniform", "min": 1, "max": 9, "q": 2}, "list the numbers under `values`"),
        ({"distribution": "q_uniform", "min": 1, "max": 9, "step": 2}, "call it `q`"),
        ({"distribution": "int_log", "min": 1, "max": 9}, "did you mean 'int_log_uniform'?"),
        (
            {"distribution": "uniform", "min": 0, "1": None, "max": 0},
            "use a decimal point, not a comma: 0.1",
        ),
        ({"values": 3}, "write a list: [3]"),
    ],
)
def test_a_refusal_says_what_to_write(raw: Any, remedy: str) -> None:
    assert refusal(raw).remedy == remedy


def test_a_bare_scalar_is_a_constant_and_values_may_be_anything_plain() -> None:
    assert read("relu").grid() == ["relu"]
    assert read(None).grid() == [None]
    mixed = [None, True, 1, 0.5, "x", [1, 2], {"step_decay": {"every": 10}}]
    assert read({"values": mixed}) == Choice(values=mixed)


def test_identity_tells_numbers_from_booleans() -> None:
    assert identity(1) == identity(1.0) != identity(True)
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})


def test_the_grid_goes_in_the_files_order_the_first_slowest() -> None:
    assert list(space(b={"values": [1, 2]}, a={"values": ["x", "y"]}, c=7).grid()) == [
        {"b": 1, "a": "x", "c": 7},
        {"b": 1, "a": "y", "c": 7},
        {"b": 2, "a": "x", "c": 7},
        {"b": 2, "a": "y", "c": 7},
    ]


def test_a_continuous_dimension_leaves_no_grid() -> None:
    mixed = space(units={"values": [1, 2]}, rate={"distribution": "uniform", "min": 0, "max": 1})
    assert mixed.grid_size() is None
    assert mixed.continuous() == ["rate"]


def test_a_huge_grid_is_counted_and_begun_without_being_built() -> None:
    wide = {"distribution": "int_uniform", "min": 1, "max": 2**50}
    huge = space(a=wide, b=wide, c={"values": [1], "when": {"a": [3]}})
    small = space(a=wide, b=wide)
    assert small.grid_size() == 2**100
    assert list(islice(huge.grid(), 2)) == [{"a": 1, "b": 1}, {"a": 1, "b": 2}]
    with pytest.raises(RuleError, match="conditions may depend on at most 100,000 combinations"):
        huge.grid_size()


CONDITIONAL = {
    "depth": {"values": [1, 2], "when": {"kind": ["cnn", "mlp"]}},  # listed before the one it depends on
    "kind": {"values": ["linear", "mlp", "cnn"]},
    "dropout": {
        "distribution": "q_uniform",
        "min": 0,
        "max": 0.2,
        "q": 0.1,
        "when": {"depth": [2], "kind": ["cnn"]},
    },
}


def test_a_conditional_parameter_exists_only_beside_its_values() -> None:
    grid = list(space(**CONDITIONAL).grid())
    assert grid == [
        {"kind": "linear"},
        {"depth": 1, "kind": "mlp"},
        {"depth": 2, "kind": "mlp"},
        {"depth": 1, "kind": "cnn"},
        {"depth": 2, "kind": "cnn", "dropout": 0.0},
        {"depth": 2, "kind": "cnn", "dropout": 0.1},
        {"depth": 2, "kind": "cnn", "dropout": 0.2},
    ]  # fmt: skip


@given(st.integers(0, 2**32))
def test_every_draw_is_a_point_of_the_grid(seed: int) -> None:
    conditional = space(**CONDITIONAL)
    assert conditional.sample(np.random.default_rng(seed)) in list(conditional.grid())


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Finite spaces whose dimensions may depend on any of those before them."""
    dimensions: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 5))):
        raw: dict[str, Any] = {"values": list(range(draw(st.integers(1, 3))))}
        if index and draw(st.booleans()):
            parent = draw(st.sampled_from(list(dimensions)))
            raw["when"] = {parent: [draw(st.sampled_from(dimensions[parent]["values"]))]}
        dimensions[f"p{index}"] = raw
    names = draw(st.permutations(list(dimensions)))
    return space(**{name: dimensions[name] for name in names})


@given(spaces())
def test_the_grid_holds_as_many_different_points_as_it_says(some: Space) -> None:
    points = [tuple(params.items()) for params in some.grid()]
    assert len(set(points)) == len(points) == some.grid_size()


@pytest.mark.parametrize(
    ("raw", "rule", "at"),
    [
        ({"b": [1]}, "`when` names an unknown parameter 'b'", ("a", "when", "b")),
        ({"lyers": [1]}, "`when` names an unknown parameter 'lyers'", ("a", "when", "lyers")),
        ({"layers": [9]}, "`when` asks for a value that 'layers' never has, got 9", ("a", "when", "layers")),
        (
            {"layers": [True]},
            "`when` asks for a value that 'layers' never has, got true",
            ("a", "when", "layers"),
        ),
        ({"rate": [0.5]}, "`when` needs a parameter with listed values, got 'rate'", ("a", "when", "rate")),
        ({"a": [1]}, "conditions must not be circular, got a", ("a", "when")),
    ],
)
def test_conditions_are_checked(raw: Any, rule: str, at: tuple[str, ...]) -> None:
    with pytest.raises(RuleError) as caught:
        space(
            a={"values": [1, 2], "when": raw},
            layers={"distribution": "int_uniform", "min": 1, "max": 3},
            rate={"distribution": "uniform", "min": 0, "max": 1},
        )
    assert (caught.value.rule, caught.value.at) == (rule, at)


def test_a_circular_condition_is_refused() -> None:
    with pytest.raises(RuleError, match="must not be circular, got a, b"):
        space(a={"values": [1], "when": {"b": [1]}}, b={"values": [1], "when": {"a": [1]}}, c=1)


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(RuleError, match="at most 256 parameters, got 257"):
        space(**{f"p{index}": 1 for index in range(257)})


def test_what_has_one_value_need_not_be_in_a_point() -> None:
    made = space(
        pause=0.4,
        units={"values": [1, 2]},
        rate={"values": [0.1]},
        momentum={"values": [0.9], "when": {"units": [2]}},
    )
    assert made.point({"units": 1}) == {"pause": 0.4, "units": 1, "rate": 0.1}
    assert made.point({"units": 2}) == {"pause": 0.4, "units": 2, "rate": 0.1, "momentum": 0.9}
    with pytest.raises(RuleError, match="pause must be one of"):
        made.point({"units": 1, "pause": 0.5})


def test_all_that_a_point_lacks_is_told_at_once() -> None:
    with pytest.raises(RuleError) as caught:
        space(units={"values": [1, 2]}, rate={"values": [3, 4]}).point({})
    assert caught.value.rule == "a point has a value for every parameter, 'units', 'rate' are missing"
    assert caught.value.remedy == "add them: units is one of [1, 2], rate is one of [3, 4]"

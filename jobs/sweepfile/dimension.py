"""The dimensions of a space: the distributions of a sweep file, their bounds and their draws."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Strict, Tag, model_validator

from kerasweep.jobs.sweepfile import synonyms
from kerasweep.jobs.sweepfile.block import LARGEST, Block, Number, Positive, Whole, take_whole
from kerasweep.jobs.sweepfile.levels import LevelRange, number_points, whole_points
from kerasweep.jobs.sweepfile.rules import RuleError, nearest, show

if TYPE_CHECKING:
    from numpy.random import Generator

#: How many points a grid uses for a continuous range if the file does not say.
DEFAULT_POINTS = 5
LIMIT_POINTS = 1000

#: Other names for the step that people write.
_STEPS = ("q", "step")

Points = Annotated[
    Annotated[int, Strict(), Field(ge=2, le=LIMIT_POINTS), BeforeValidator(take_whole)] | None,
    Field(examples=[5], description="How many of its values `method: grid` tries, both bounds among them"),
]
When = Annotated[
    dict[str, Annotated[list[JsonValue], Field(min_length=1)]],
    Field(min_length=1, description="Exists only where each of these other parameters has one of the values"),
]


class Dimension(Block):
    """One parameter: its possible values, and when it exists."""

    elsewhere: ClassVar[Mapping[str, str]] = synonyms.DISTRIBUTION_KEYS

    when: When | None = None

    def sample(self, rng: Generator) -> JsonValue:
        """Draw a value."""
        raise NotImplementedError

    def grid(self) -> Sequence[JsonValue] | None:
        """Return every value in order, computed lazily; None for a continuous range."""
        raise NotImplementedError

    def on_grid(self) -> Dimension:
        """Return the dimension for the grid method, with finitely many values."""
        return self

    def holds(self, value: JsonValue) -> bool:
        """Tell whether a value is in the grid."""
        return any(identity(value) == identity(known) for known in self.grid() or ())

    def contains(self, value: JsonValue) -> bool:
        """Tell whether the dimension can take a value."""
        return self.holds(value)

    def told(self) -> str:
        """Describe the possible values, for a message."""
        return f"one of {show(list((self.grid() or ())[:8]))}"


class Constant(Dimension):
    """One value, the same in every trial."""

    value: JsonValue = Field(examples=["relu"])

    def sample(self, rng: Generator) -> JsonValue:
        return self.value

    def grid(self) -> Sequence[JsonValue]:
        return [self.value]


class Choice(Dimension):
    """Listed values of any plain kind, all equally likely."""

    values: list[JsonValue] = Field(min_length=1, examples=[[50, 100]])

    @model_validator(mode="after")
    def _check_distinct(self) -> Choice:
        seen: set[str] = set()
        for index, value in enumerate(self.values):
            if identity(value) in seen:
                rule = f"values must differ, got {show(value)} twice"
                raise RuleError(rule, "keep one of the two", ("values", index))
            seen.add(identity(value))
        return self

    def sample(self, rng: Generator) -> JsonValue:
        return self.values[int(rng.integers(len(self.values)))]

    def grid(self) -> Sequence[JsonValue]:
        return self.values


class Range(Dimension):
    """Numbers between two bounds, inclusive."""

    min: Any
    max: Any
    logarithmic: ClassVar[bool] = False

    @model_validator(mode="after")
    def _check_bounds(self) -> Range:
        got = f"got min={self.min}, max={self.max}"
        if self.logarithmic and self.min <= 0:
            remedy = "write a small bound above 0, as a plain number and not as its exponent"
            raise RuleError(f"min must be above 0 for a log distribution, {got}", remedy)
        if not self.min < self.max:
            remedy = "swap them" if self.min > self.max else f"write `value: {self.min}` for one value"
            raise RuleError(f"min must be below max, {got}", remedy)
        if not math.isfinite(float(self.max) - float(self.min)):
            raise RuleError(f"max - min must be finite, {got}", "narrow the range")
        return self

    def told(self) -> str:
        return f"from {self.min} to {self.max}"


class Continuous(Range):
    min: Number = Field(examples=[0.0])
    max: Number = Field(examples=[0.5])
    points: Points = None

    def grid(self) -> tuple[float, ...] | None:
        return number_points(self.min, self.max, self.points, self.logarithmic) if self.points else None

    def contains(self, value: JsonValue) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return bool(self.min <= value <= self.max)

    def on_grid(self) -> Continuous:
        return self if self.points else self.model_copy(update={"points": DEFAULT_POINTS})


class Uniform(Continuous):
    """Any number between the bounds."""

    elsewhere = synonyms.DISTRIBUTION_KEYS | dict.fromkeys(
        _STEPS, "write `distribution: q_uniform` for steps"
    )
    distribution: Literal["uniform"]

    def sample(self, rng: Generator) -> float:
        return float(rng.uniform(self.min, self.max))


class LogUniform(Continuous):
    """Any number between the bounds, log-uniformly."""

    elsewhere = synonyms.DISTRIBUTION_KEYS | dict.fromkeys(
        _STEPS, "write `distribution: q_log_uniform` for steps"
    )
    distribution: Literal["log_uniform"]
    min: Number = Field(examples=[0.0001])
    max: Number = Field(examples=[0.1])
    logarithmic: ClassVar[bool] = True

    def sample(self, rng: Generator) -> float:
        return _log_uniform(rng, self.min, self.max)


class Stepped(Range):
    """Numbers at equal steps from min; max is included if a step meets it."""

    def grid(self) -> Sequence[float]:
        return self._steps()

    def sample(self, rng: Generator) -> float:
        steps = self._steps()
        if not self.logarithmic:
            return steps[int(rng.integers(len(steps)))]
        # Draw from half a step below to half a step above, so that the first and last steps get their share.
        half = self._step() / 2
        return self.snap(_log_uniform(rng, max(steps[0] - half, steps[0] / 2), steps[-1] + half))

    def holds(self, value: JsonValue) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.snap(value) == value

    def snap(self, value: float) -> float:
        """Return the step nearest to a value."""
        steps = self._steps()
        index = round((value - steps[0]) / self._step())
        return steps[min(max(index, 0), len(steps) - 1)]

    def _steps(self) -> range | LevelRange:
        raise NotImplementedError

    def _step(self) -> float:
        raise NotImplementedError


class WholeRange(Stepped):
    elsewhere = synonyms.DISTRIBUTION_KEYS | dict.fromkeys(_STEPS, "list the numbers under `values`")
    min: Whole = Field(examples=[1])
    max: Whole = Field(examples=[8])
    points: Points = None

    @model_validator(mode="after")
    def _check_points(self) -> WholeRange:
        count = self.max - self.min + 1
        if self.points and self.points > count:
            got = f"the whole numbers from {self.min} to {self.max}, got {self.points}"
            remedy = "remove it: a grid tries them all"
            raise RuleError(f"must be at most {count}, {got}", remedy, ("points",))
        return self

    def grid(self) -> Sequence[int]:
        if not self.points:
            return self._steps()
        return whole_points(self.min, self.max, self.points, self.logarithmic)

    def holds(self, value: JsonValue) -> bool:
        return super().holds(value) and (not self.points or value in self.grid())

    def _steps(self) -> range:
        return range(self.min, self.max + 1)

    def _step(self) -> float:
        return 1


class IntUniform(WholeRange):
    """Any whole number between the bounds."""

    distribution: Literal["int_uniform"]


class IntLogUniform(WholeRange):
    """Any whole number between the bounds, log-uniformly."""

    distribution: Literal["int_log_uniform"]
    logarithmic: ClassVar[bool] = True


class Quantised(Stepped):
    elsewhere = synonyms.DISTRIBUTION_KEYS | {"step": "call it `q`"}
    min: Number = Field(examples=[0.0])
    max: Number = Field(examples=[0.5])
    q: Positive = Field(examples=[0.1], description="The step")

    @model_validator(mode="after")
    def _check_step(self) -> Quantised:
        got = f"got q={self.q}, min={self.min}, max={self.max}"
        if self.q > self.max - self.min:
            raise RuleError(f"q must be at most max - min, {got}", "write a smaller step", ("q",))
        if (self.max - self.min) / self.q > LARGEST:
            raise RuleError(f"q must leave at most 2^53 steps, {got}", "write a larger step", ("q",))
        return self

    def _steps(self) -> LevelRange:
        return LevelRange(self.min, self.max, self.q)

    def _step(self) -> float:
        return self.q


class QUniform(Quantised):
    """min, min + q, min + 2q and so on, up to max."""

    distribution: Literal["q_uniform"]


class QLogUniform(Quantised):
    """min, min + q, min + 2q and so on, up to max, roughly log-uniformly."""

    distribution: Literal["q_log_uniform"]
    logarithmic: ClassVar[bool] = True


def identity(value: JsonValue) -> str:
    """Return text that is equal for equal plain values: 1 and 1.0 are the same, 1 and true are not."""
    return json.dumps(_whole_as_int(value), sort_keys=True)


def _whole_as_int(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _whole_as_int(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_as_int(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    drawn = math.exp(rng.uniform(math.log(low), math.log(high)))
    return min(max(drawn, low), high)  # exp(log(x)) may round to a number out of bounds


_DISTRIBUTIONS: dict[str, type[Dimension]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int_uniform": IntUniform,
    "int_log_uniform": IntLogUniform,
    "q_uniform": QUniform,
    "q_log_uniform": QLogUniform,
}


#: What a user writes who forgets the brackets.
_NUMBERS = re.compile(r"[-+.\deE]+( *, *[-+.\deE]+)+")


def is_dimension(raw: object) -> bool:
    """Tell whether a plain value has the form of a distribution."""
    return isinstance(raw, Mapping) and not {"values", "value", "distribution"}.isdisjoint(raw)


def _check_form(raw: Any) -> Any:
    """Accept a bare scalar as a constant, and refuse anything that is not a distribution."""
    if isinstance(raw, Dimension):
        return raw
    if isinstance(raw, list):
        rule = f"a list of choices goes under 'values', got {show(raw)}"
        raise RuleError(rule, f"write {{values: {show(raw)}}}")
    if isinstance(raw, str) and _NUMBERS.fullmatch(raw):
        rule = f"a list of choices goes under 'values', got {show(raw)}"
        raise RuleError(rule, f"write {{values: [{raw}]}}, or {{value: {show(raw)}}} if text is meant")
    if not isinstance(raw, Mapping):
        return {"value": raw}
    if not is_dimension(raw):
        rule = f"a parameter says 'values', 'value' or 'distribution', got {show(dict(raw))}"
        known = [synonyms.DISTRIBUTION_KEYS[key] for key in raw if key in synonyms.DISTRIBUTION_KEYS]
        remedy = known[0] if known else nearest(next(iter(raw), ""), ["values", "distribution"])
        if {"min", "max"} & set(raw) or any("'min'" in one or "'max'" in one for one in known):
            remedy = f"say min, max and which: add `distribution: ...`, one of {', '.join(_DISTRIBUTIONS)}"
        raise RuleError(rule, remedy)
    kind = raw.get("distribution")
    if "distribution" in raw and str(kind) not in _DISTRIBUTIONS:
        rule = f"unknown distribution {show(kind)}"
        remedy = synonyms.DISTRIBUTIONS.get(str(kind).lower()) or nearest(kind, _DISTRIBUTIONS)
        raise RuleError(rule, remedy, ("distribution",))
    if "points" in raw and "points" not in _DISTRIBUTIONS.get(_kind(raw), Constant).model_fields:
        beside = next((key for key in ("values", "value", "q") if key in raw), kind)
        rule = f"points says how many values of a range a grid tries, got it beside '{beside}'"
        remedy = "remove it: a grid tries every value that is listed, and every step"
        raise RuleError(rule, remedy, ("points",))
    return raw


def _kind(raw: Any) -> str:
    if isinstance(raw, Dimension):
        return str(getattr(raw, "distribution", "values" if isinstance(raw, Choice) else "value"))
    return str(raw.get("distribution", "values" if "values" in raw else "value"))


AnyDimension = Annotated[
    Annotated[Constant, Tag("value")]
    | Annotated[Choice, Tag("values")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[IntUniform, Tag("int_uniform")]
    | Annotated[IntLogUniform, Tag("int_log_uniform")]
    | Annotated[QUniform, Tag("q_uniform")]
    | Annotated[QLogUniform, Tag("q_log_uniform")],
    Discriminator(_kind),
    BeforeValidator(_check_form),
]

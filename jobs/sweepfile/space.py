"""The space that a sweep searches: its dimensions in file order, some of them conditional."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import JsonValue

from kerasweep.jobs.sweepfile.dimension import Dimension, identity
from kerasweep.jobs.sweepfile.rules import RuleError, nearest, show

if TYPE_CHECKING:
    from numpy.random import Generator

#: One trial's values; a conditional parameter that does not exist in the trial is absent.
Params = dict[str, JsonValue]

LIMIT_DIMENSIONS = 256
LIMIT_CONDITIONS = 100_000


@dataclass(frozen=True)
class Cell:
    """A part of a finite space in which the same dimensions exist.

    Args:
        params: the values of the dimensions that others depend on.
        free: every value of each other existing dimension.
    """

    params: Params
    free: Mapping[str, Sequence[JsonValue]]

    @property
    def size(self) -> int:
        """The number of its points."""
        return math.prod(map(len, self.free.values()))


@dataclass(frozen=True)
class Space:
    """Named dimensions, in file order.

    Raises:
        RuleError: too many dimensions, a `when` that names an unknown parameter or value, or a circular
            condition.
    """

    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        if len(self.dimensions) > LIMIT_DIMENSIONS:
            rule = f"a sweep has at most {LIMIT_DIMENSIONS} parameters, got {len(self.dimensions)}"
            raise RuleError(rule, "sweep fewer of them")
        for name in self.dimensions:
            self._check_conditions(name)
        if len(self._order) < len(self.dimensions):
            circle = [name for name in self.dimensions if name not in self._order]
            rule = f"conditions must not be circular, got {', '.join(circle)}"
            raise RuleError(rule, "remove one `when`", (circle[0], "when"))

    def exists(self, name: str, params: Params) -> bool:
        """Tell whether a dimension exists, given the values of those it depends on."""
        conditions = self.dimensions[name].when or {}
        return all(
            other in params and identity(params[other]) in map(identity, values)
            for other, values in conditions.items()
        )

    def point(self, given: Mapping[str, JsonValue]) -> Params:
        """Return the point with these values, in file order; what has one possible value need not be given.

        Raises:
            RuleError: a parameter is missing, unknown, or has an impossible value.
        """
        params = dict(given)
        for name in self._order:
            grid = self.dimensions[name].grid() or ()
            if name not in params and len(grid) == 1 and self.exists(name, params):
                params[name] = grid[0]
        self._check_point(params)
        return self.in_file_order(params)

    def _check_point(self, params: Params) -> None:
        for name in params:
            if name not in self.dimensions:
                raise RuleError(f"unknown parameter '{name}'", nearest(name, self.dimensions), (name,))
        lacking = [name for name in self.dimensions if name not in params and self.exists(name, params)]
        if lacking:
            names = ", ".join(f"'{name}'" for name in lacking)
            are, them = ("is", "it") if len(lacking) == 1 else ("are", "them")
            known = ", ".join(f"{name} is {self.dimensions[name].told()}" for name in lacking)
            rule = f"a point has a value for every parameter, {names} {are} missing"
            raise RuleError(rule, f"add {them}: {known}", (lacking[0],))
        for name, dimension in self.dimensions.items():
            there = name in params and self.exists(name, params)
            if not there and name in params:
                rule = (
                    f"'{name}' does not exist with these values of other parameters, got {show(params[name])}"
                )
                raise RuleError(rule, "remove it", (name,))
            if there and not dimension.contains(params[name]):
                rule = f"{name} must be {dimension.told()}, got {show(params[name])}"
                raise RuleError(rule, "write a value of the space, or widen the space", (name,))

    def sample(self, rng: Generator) -> Params:
        """Draw every dimension that exists."""
        return self.choose(lambda _, dimension: dimension.sample(rng))

    def choose(self, chosen: Callable[[str, Dimension], JsonValue]) -> Params:
        """Call `chosen` for a value of every dimension that exists, after those it depends on."""
        params: Params = {}
        for name in self._order:
            if self.exists(name, params):
                params[name] = chosen(name, self.dimensions[name])
        return self.in_file_order(params)

    def grid(self) -> Iterator[Params]:
        """Yield every combination, the first dimension slowest; the space must be finite."""
        for params in self._combine(self._order, {}):
            yield self.in_file_order(params)

    def grid_size(self) -> int | None:
        """Return the number of combinations, or None if a dimension is continuous.

        Raises:
            RuleError: the conditions depend on too many combinations.
        """
        return self._grid_size

    def cells(self) -> Iterator[Cell]:
        """Yield each combination of the dimensions that others depend on, with the free dimensions beside it.

        A finite space without conditions is one cell.

        Raises:
            RuleError: there are too many cells.
        """
        # Only the dimensions that others depend on are enumerated; the rest is multiplied, whatever its size.
        parents = [name for name in self._order if name in self._parents]
        leaves = [name for name in self.dimensions if name not in self._parents]
        for count, params in enumerate(self._combine(parents, {})):
            if count >= LIMIT_CONDITIONS:
                rule = f"conditions may depend on at most {LIMIT_CONDITIONS:,} combinations, here are more"
                raise RuleError(rule, "name fewer parameters under `when`")
            free = [name for name in leaves if self.exists(name, params)]
            yield Cell(params, {name: self.dimensions[name].grid() or () for name in free})

    @property
    def varied(self) -> Mapping[str, Dimension]:
        """The dimensions with more than one value."""
        return {
            name: dimension
            for name, dimension in self.dimensions.items()
            if (grid := dimension.grid()) is None or len(grid) > 1
        }

    def continuous(self) -> list[str]:
        """Return the names of the dimensions that have no grid."""
        return [name for name, dimension in self.dimensions.items() if dimension.grid() is None]

    def in_file_order(self, params: Params) -> Params:
        """Return the same values in the order of the dimensions."""
        return {name: params[name] for name in self.dimensions if name in params}

    @cached_property
    def _grid_size(self) -> int | None:
        return None if self.continuous() else sum(cell.size for cell in self.cells())

    @cached_property
    def _parents(self) -> frozenset[str]:
        return frozenset(other for dimension in self.dimensions.values() for other in dimension.when or ())

    @cached_property
    def _order(self) -> list[str]:
        """The names in dependency order; those in a circle are left out."""
        order: list[str] = []
        waiting = list(self.dimensions)
        while ready := [name for name in waiting if set(self.dimensions[name].when or ()) <= set(order)]:
            order.append(ready[0])
            waiting.remove(ready[0])
        return order

    def _check_conditions(self, name: str) -> None:
        for other, values in (self.dimensions[name].when or {}).items():
            at = (name, "when", other)
            if other not in self.dimensions:
                rule = f"`when` names an unknown parameter '{other}'"
                raise RuleError(rule, nearest(other, self.dimensions), at)
            grid = self.dimensions[other].grid()
            if grid is None:
                rule = f"`when` needs a parameter with listed values, got '{other}'"
                raise RuleError(rule, f"give '{other}' the form {{values: [...]}}", at)
            for value in values:
                if not self.dimensions[other].holds(value):
                    rule = f"`when` asks for a value that '{other}' never has, got {show(value)}"
                    raise RuleError(rule, f"it has {show(list(grid[:8]))}", at)

    def _combine(self, names: list[str], params: Params) -> Iterator[Params]:
        if not names:
            yield dict(params)
            return
        name, rest = names[0], names[1:]
        if not self.exists(name, params):
            yield from self._combine(rest, params)
            return
        for value in self.dimensions[name].grid() or ():
            yield from self._combine(rest, {**params, name: value})

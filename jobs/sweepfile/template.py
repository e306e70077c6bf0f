"""The `training:` block as written, where a distribution may replace any value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

from pydantic import JsonValue, TypeAdapter, ValidationError

from kerasweep.jobs.sweepfile.block import rule_broken
from kerasweep.jobs.sweepfile.dimension import AnyDimension, Choice, Dimension, Range, is_dimension
from kerasweep.jobs.sweepfile.rules import Path, RuleError, show
from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.sweepfile.training import Training

#: The prefix of the dotted names of swept values.
ROOT = "training"


def swept(template: Mapping[str, JsonValue]) -> dict[str, Dimension]:
    """Return the distributions in the block by dotted path, such as training.early_stopping.patience.

    Raises:
        RuleError: one of them is not valid.
    """
    return {_dotted(path): _read(raw, path) for path, raw in _find(template, (ROOT,))}


def fill(template: Mapping[str, JsonValue], params: Mapping[str, Any]) -> Training:
    """Return the block with one trial's values; a conditional value that the trial lacks keeps its default.

    Raises:
        RuleError: the values are inconsistent.
    """
    try:
        return Training.model_validate(_put(template, (ROOT,), params))
    except ValidationError as error:
        breach = rule_broken(error)
        written = _written(template, breach.at)
        if isinstance(written, list) and breach.rule.startswith(("must be a whole", "must be a num")):
            breach.remedy = f"write {{values: {show(written)}}} to try each of them"
        raise breach.within(ROOT) from error


def _written(template: object, path: Path) -> object:
    """Return the value at a path of the block, or None."""
    for step in path:
        template = template.get(step) if isinstance(template, Mapping) else None
    return template


def complete(template: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Return the block with its defaults written out; what holds a distribution stays as it is written."""
    first = {name: _probe(dimension)[0] for name, dimension in swept(template).items()}
    found = fill(template, first).model_dump(mode="json")
    for key, value in template.items():
        if any(_find(value, (key,))):
            block = isinstance(value, Mapping) and not is_dimension(value)
            found[key] = {**found[key], **cast(Mapping[str, Any], value)} if block else value
    return found


def check(template: Mapping[str, JsonValue], dimensions: Mapping[str, Dimension]) -> None:
    """Try the possible values of each distribution in its place, the others at their first value.

    Raises:
        RuleError: a possible value is not valid there.
    """
    probes = {name: _probe(dimension) for name, dimension in dimensions.items()}
    first: Params = {name: values[0] for name, values in probes.items()}
    fill(template, first)
    for name, values in probes.items():
        for value in values[1:]:
            _try(template, {**first, name: value}, dimensions[name])
        if dimensions[name].when:
            _check_optional(template, name, {other: first[other] for other in first if other != name})


def most_epochs(template: Mapping[str, JsonValue]) -> int:
    """Return the maximum number of epochs of a trial, swept or not."""
    dimension = swept(template).get(f"{ROOT}.epochs")
    values = _probe(dimension) if dimension is not None else [template["epochs"]]
    return max(int(value) for value in values if isinstance(value, int | float))


def _try(template: Mapping[str, JsonValue], params: Params, dimension: Dimension) -> None:
    try:
        fill(template, params)
    except RuleError as breach:
        if isinstance(dimension, Range) and breach.rule.startswith("must be a whole number"):
            breach.remedy = "use a distribution of whole numbers: int_uniform or int_log_uniform"
        raise


def _check_optional(template: Mapping[str, JsonValue], name: str, others: Params) -> None:
    try:
        fill(template, others)
    except RuleError as breach:
        rule = f"`when` is allowed only for optional values, got '{name}'"
        raise RuleError(rule, "remove its `when`", (*name.split("."), "when")) from breach


def _find(raw: object, path: Path) -> Iterator[tuple[Path, object]]:
    if is_dimension(raw):
        yield path, raw
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _find(value, (*path, key))
    elif isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from _find(value, (*path, index))


def _put(raw: object, path: Path, params: Mapping[str, Any]) -> Any:
    if is_dimension(raw):
        return params[_dotted(path)]
    if isinstance(raw, Mapping):
        kept = {key: value for key, value in raw.items() if not _absent(value, (*path, key), params)}
        return {key: _put(value, (*path, key), params) for key, value in kept.items()}
    if isinstance(raw, list):
        return [
            _put(value, (*path, index), params)
            for index, value in enumerate(raw)
            if not _absent(value, (*path, index), params)
        ]
    return raw


def _absent(raw: object, path: Path, params: Mapping[str, Any]) -> bool:
    return is_dimension(raw) and _dotted(path) not in params


def _probe(dimension: Dimension) -> Sequence[JsonValue]:
    """Return the values worth checking: every choice, or the bounds of a range and one inside."""
    grid = dimension.grid()
    if isinstance(dimension, Choice):
        return dimension.values
    if grid is not None:
        # If the second value is whole like the bounds, so are all between: the steps or factors are even.
        return [grid[0], grid[min(1, len(grid) - 1)], grid[-1]]
    bounds = dimension.model_dump()
    return [bounds["min"], bounds["max"], bounds["min"] + (bounds["max"] - bounds["min"]) / math.pi]


def _read(raw: object, path: Path) -> Dimension:
    try:
        return _adapter().validate_python(raw)
    except ValidationError as error:
        raise rule_broken(error).within(*path) from error


@cache
def _adapter() -> TypeAdapter[Dimension]:
    return TypeAdapter(AnyDimension)


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))

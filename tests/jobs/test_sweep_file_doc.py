"""docs/sweep-file.md matches the code for each key, default, schedule and form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from kerasweep.jobs.code.program import check, read_program
from kerasweep.jobs.sweepfile import dimension, method, spec, stopping, training
from kerasweep.jobs.sweepfile.block import Block
from kerasweep.jobs.sweepfile.json_schema import json_schema
from kerasweep.jobs.sweepfile.plain_yaml import read_yaml, resolve
from kerasweep.jobs.sweepfile.rules import show
from kerasweep.jobs.sweepfile.schedule import Schedule
from kerasweep.jobs.sweepfile.spec import parse_spec

DOC = (Path(__file__).parents[2] / "docs" / "sweep-file.md").read_text(encoding="utf-8")
BASE: dict[str, Any] = {
    "name": "a",
    "job": "train.py",
    "metric": {"name": "loss", "goal": "minimize"},
    "method": "random",
    "training": {"epochs": 6},
    "budget": {"max_trials": 1},
}
BLOCKS: dict[str, type[Block]] = {
    "": spec.SweepSpec,
    "metric.": spec.Metric,
    "method.": method.TpeMethod,
    "budget.": spec.Budget,
    "resources.": spec.Resources,
    "retries.": spec.Retries,
    "checkpoints.": spec.Checkpoints,
    "stopping.": stopping.Stopping,
    "stopping.halving.": stopping.Halving,
    "stopping.median.": stopping.Median,
    "training.": training.Training,
    "training.early_stopping.": training.EarlyStopping,
    "training.reduce_on_plateau.": training.ReduceOnPlateau,
    "training.tensorboard.": training.TensorBoard,
}
GROUPS = {"metric", "budget", "resources", "retries", "checkpoints"}


def rows(head: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables whose header begins with `head`."""
    for table in re.findall(rf"^\| {re.escape(head)} .*\n\| ---.*\n((?:\|.*\n)+)", DOC, re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def plain(text: str) -> Any:
    """Return the value of a YAML text in backquotes."""
    return read_yaml(f"value: {text.strip('`')}")[0]["value"]


def test_every_key_of_the_schema_is_mentioned() -> None:
    prose = re.sub(r"```.*?```", "", DOC, flags=re.DOTALL)
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", prose))))
    schema = json_schema()
    keys = set(schema["properties"]).union(
        *(block.get("properties", ()) for block in schema["$defs"].values())
    )
    assert len(keys) > 50
    assert keys - words == set()


def test_every_key_is_in_a_table_with_its_default() -> None:
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in rows("key")}
    known = {}
    for prefix, block in BLOCKS.items():
        for name, info in block.model_fields.items():
            if prefix + name not in GROUPS:
                default = info.get_default(call_default_factory=True)
                known[prefix + name] = "required" if default is PydanticUndefined else default
    known["training.learning_rate_schedule"] = "constant"
    known |= {"method.generation": None, "method.then": None}
    assert told == {
        name: value if value == "required" else show(value, bare=True) for name, value in known.items()
    }


def test_the_factors_are_those_that_a_trial_trains_with() -> None:
    tables = list(rows("schedule | 1"))
    assert {form for cells in tables for form in Schedule.model_fields if form in cells[0]} == set(
        Schedule.model_fields
    )
    for text, *factors in tables:
        schedule = Schedule.model_validate(plain(text))
        assert factors == [f"{schedule.factor(epoch, 6):.3f}" for epoch in range(1, 7)], text


def test_every_schedule_has_its_formula_and_its_example_is_valid() -> None:
    examples = [text for cells in rows("schedule | factor") for text in re.findall(r"`([^`]+)`", cells[0])]
    forms = {Schedule.model_validate(plain(text)).form.__class__ for text in examples}
    assert len(forms) == len(Schedule.model_fields)


def test_every_distribution_has_a_row_and_its_example_is_valid() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(dimension.AnyDimension)
    texts = [text for cells in rows("form") for text in re.findall(r"`([^`]+)`", cells[0]) if "…" not in text]
    read = [adapter.validate_python(plain(text)) for text in texts]
    assert {type(one) for one in read} == {
        dimension.Constant, dimension.Choice, dimension.Uniform, dimension.LogUniform, dimension.IntUniform,
        dimension.IntLogUniform, dimension.QUniform, dimension.QLogUniform,
    }  # fmt: skip


def test_the_points_are_those_that_a_grid_tries() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(dimension.AnyDimension)
    found = list(rows("range"))
    assert len(found) > 4
    for text, points in found:
        assert list(adapter.validate_python(plain(text)).on_grid().grid()) == plain(points), text


def test_plain_values_are_read_as_the_table_says() -> None:
    kinds = {
        "a number": float,
        "ten": int,
        "31, 15": int,
        "a boolean": bool,
        "text": str,
        "nothing": type(None),
    }
    for written, meaning in rows("written"):
        for text in re.findall(r"`([^`]+)`", written):
            assert type(resolve(text)) is kinds[meaning], text
    assert (resolve("010"), resolve("0x1F"), resolve("0o17")) == (10, 31, 15)


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", DOC, re.DOTALL))
def test_what_is_shown_is_valid(text: str) -> None:
    shown = read_yaml(text)[0]
    if "name" not in shown and "parameters" not in shown:
        shown["parameters"] = {"units": {"values": [50, 100]}}
    assert parse_spec(shown if "name" in shown else {**BASE, **shown}).planned_trials() > 0


def test_the_first_sweep_of_the_readme_suits_its_job(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for name, language in (("sweep.yaml", "yaml"), ("train.py", "python")):
        (text,) = re.findall(rf"```{language}\n(# {name}\n.*?)```", readme, re.DOTALL)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = spec.load_spec(tmp_path / "sweep.yaml")
    check(found, read_program(tmp_path / found.job))
    assert set(found.space().dimensions) >= {"learning_rate", "units", "training.early_stopping.patience"}


def test_when_accepts_a_full_path() -> None:
    swept = {"epochs": 3, "batch_size": {"values": [16, 32]}}
    rate = {"values": [0.1, 0.2], "when": {"training.batch_size": [16]}}
    found = parse_spec({**BASE, "parameters": {"rate": rate}, "training": swept, "method": "grid"})
    assert found.space().grid_size() == 3


def test_the_limits_are_those_of_the_code() -> None:
    from kerasweep.jobs.sweepfile import rules, sheet, space

    limits = (sheet.LIMIT_BYTES, rules.LIMIT_DEPTH, rules.LIMIT_VALUES, space.LIMIT_DIMENSIONS)
    assert limits == (1 << 20, 32, 100_000, 256)
    assert (spec.LIMIT_TRIALS, dimension.LIMIT_POINTS, dimension.DEFAULT_POINTS) == (100_000, 1000, 5)
    for words in (
        "1 MiB, 32 levels",
        "100,000 values",
        "256 parameters",
        "100,000 trials",
        "2 to 1,000, by default 5",
    ):
        assert words in DOC

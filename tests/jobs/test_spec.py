"""The sweep file: its content, its round trip, and the errors for invalid ones."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasweep.jobs.errors import SpecError
from kerasweep.jobs.sweepfile.json_schema import json_schema
from kerasweep.jobs.sweepfile.method import TpeMethod
from kerasweep.jobs.sweepfile.plain_yaml import resolve
from kerasweep.jobs.sweepfile.rules import RuleError
from kerasweep.jobs.sweepfile.sheet import parse_sheet
from kerasweep.jobs.sweepfile.spec import SweepSpec, load_spec, parse_spec

FILE = """\
name: fashion-mlp
job: train.py
metric: {name: val_loss, goal: minimize}
method: random
parameters:
  learning_rate: {distribution: log_uniform, min: 1.0e-4, max: 0.1}
  units: {values: [50, 100]}
training:
  epochs: 30
  batch_size: 16                  # global, over all replicas
  learning_rate_schedule:         # a value may always be a distribution
    values: [constant, {step_decay: {every: 10, factor: 0.1}}, cosine]
  early_stopping: {monitor: val_loss, patience: {values: [2, 5]}, restore_best_weights: true}
seed: 7
budget: {max_trials: 32, max_hours: 2}
resources: {gpus: 1}
retries: {max_failures: 3}
checkpoints: {every_s: 30, keep_top: 3}
"""

LEAST: dict[str, Any] = {
    "name": "least",
    "job": "train.py",
    "metric": {"name": "loss", "goal": "minimize"},
    "method": "grid",
    "training": {"epochs": 1},
}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def refusal(path: Path) -> str:
    """Return the message with which the file is refused, after checking its form."""
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert 2 <= len(message.splitlines()) <= 3
    assert "pydantic" not in message
    return message


def test_the_file_of_the_readme_is_read_whole(write: Any) -> None:
    spec = load_spec(write(FILE))
    assert (spec.name, spec.job, spec.metric.goal, spec.method.name, spec.seed) == (
        "fashion-mlp", "train.py", "minimize", "random", 7,
    )  # fmt: skip
    assert list(spec.space().dimensions) == [
        "learning_rate",
        "units",
        "training.learning_rate_schedule",
        "training.early_stopping.patience",
    ]
    assert (spec.budget.max_hours, spec.resources.gpus, spec.checkpoints.keep_top) == (2.0, 1, 3)
    assert spec.planned_trials() == 32


def test_a_trials_values_go_into_the_training_block(write: Any) -> None:
    spec = load_spec(write(FILE))
    training = spec.training_for(
        {
            "learning_rate": 0.1,
            "units": 50,
            "training.learning_rate_schedule": {"step_decay": {"every": 10, "factor": 0.1}},
            "training.early_stopping.patience": 5,
        }
    )
    assert training.learning_rate_schedule.factor(11, 30) == pytest.approx(0.1)
    assert training.early_stopping is not None
    assert (training.early_stopping.patience, training.early_stopping.restore_best_weights) == (5, True)


def test_a_spec_comes_back_equal_from_json(write: Any) -> None:
    spec = load_spec(write(FILE))
    assert SweepSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert SweepSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


values = st.lists(
    st.one_of(st.none(), st.booleans(), st.integers(-99, 99), st.floats(-9, 9), st.text("abé", max_size=3)),
    max_size=3,
)
parameters = st.dictionaries(
    st.sampled_from("abcdef"),
    st.one_of(
        values.filter(bool).map(
            lambda some: {"values": [[value, index] for index, value in enumerate(some)]}
        ),
        st.integers(1, 9).map(lambda low: {"distribution": "int_log_uniform", "min": low, "max": low + 9}),
        st.sampled_from([3, "relu", None, True, {"value": {"a": [1]}}]),
    ),
)


@given(parameters)
def test_any_parameters_come_back_equal_from_json(some: dict[str, Any]) -> None:
    spec = parse_spec({**LEAST, "parameters": some, "budget": {"max_trials": 99}})
    assert SweepSpec.model_validate(json.loads(spec.model_dump_json())) == spec


def test_the_minimal_sweep_is_one_trial() -> None:
    spec = parse_spec(LEAST)
    assert spec.planned_trials() == 1
    assert (spec.seed, spec.resources.gpus, spec.retries.max_failures, spec.checkpoints.every_s) == (
        0,
        0,
        3,
        30.0,
    )


def test_a_method_is_a_word_or_a_mapping() -> None:
    spec = parse_spec({**LEAST, "method": {"name": "tpe", "parallel": 2}})
    assert spec.method == TpeMethod(name="tpe", startup_trials=10, parallel=2)
    assert parse_spec({**LEAST, "method": "tpe"}).method == TpeMethod(name="tpe")


@pytest.mark.parametrize(("method", "budget", "planned"), [
    ("grid", {}, 6), ("grid", {"max_trials": 4}, 4), ("grid", {"max_trials": 99}, 6),
    ("random", {}, 6), ("random", {"max_trials": 99}, 6), ("tpe", {"max_trials": 5}, 5),
])  # fmt: skip
def test_budget_and_space_say_how_many_trials(method: str, budget: dict[str, int], planned: int) -> None:
    swept = {"a": {"values": [1, 2, 3]}, "b": {"values": [1, 2]}}
    assert (
        parse_spec({**LEAST, "method": method, "budget": budget, "parameters": swept}).planned_trials()
        == planned
    )


def test_a_grid_beyond_the_budget_is_said_once_when_the_file_is_read(write: Any, caplog: Any) -> None:
    grid = FILE.replace("random", "grid").replace(
        "distribution: log_uniform, min: 1.0e-4, max: 0.1", "values: [1]"
    )
    with caplog.at_level(logging.WARNING):
        load_spec(write(grid.replace("max_trials: 32", "max_trials: 5")))
    assert "the grid has 12 points and the budget is 5 trials, spread" in caplog.text


def test_points_under_training_are_tried_in_their_place() -> None:
    epochs = {"distribution": "int_log_uniform", "min": 4, "max": 64, "points": 3}
    spec = parse_spec({**LEAST, "training": {"epochs": epochs}})
    assert [params["training.epochs"] for params in spec.space().grid()] == [4, 16, 64]
    uneven = {"distribution": "uniform", "min": 1, "max": 4, "points": 3}
    with pytest.raises(SpecError, match=r"epochs must be a whole number, got 2\.5"):
        parse_spec({**LEAST, "training": {"epochs": uneven}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {f"p{index}": 1 for index in range(257)},
            "a sweep has at most 256 parameters, got 257 (parameters)",
        ),
        (
            {
                "a": {"distribution": "int_uniform", "min": 1, "max": 2**20},
                "b": {"values": [1], "when": {"a": [3]}},
            },
            "conditions may depend on at most 100,000 combinations, here are more (parameters)",
        ),
    ],
    ids=["many", "conditions"],
)
def test_a_space_beyond_the_limits_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({**LEAST, "parameters": parameters})
    assert str(caught.value).startswith(message)


def mistakes() -> list[Any]:
    """Return (text in FILE, its replacement, the whole message) from mistakes.txt."""
    blocks = Path(__file__).with_name("mistakes.txt").read_text().split("\n\n")[1:]
    cases = []
    for block in blocks:
        change, *message = block.splitlines()
        right, wrong = change.replace("\\n", "\n").replace("\\t", "\t").split(" => ")
        cases.append(
            pytest.param(right, wrong.replace("(nothing)", ""), "\n".join(map(str.strip, message)), id=change)
        )
    return cases


@pytest.mark.parametrize(("right", "wrong", "message"), mistakes())
def test_a_mistake_is_named_with_its_line_and_remedy(
    right: str, wrong: str, message: str, write: Any
) -> None:
    assert right in FILE
    assert refusal(write(FILE.replace(right, wrong, 1))) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a sweep file holds a mapping of keys, got an empty file (sweep.yaml)"),
        ("# nothing\n", "a sweep file holds a mapping of keys, got an empty file (sweep.yaml)"),
        ("- a\n- b\n", "a sweep file holds a mapping of keys, got [a, b] (sweep.yaml)"),
        ("just text", "a sweep file holds a mapping of keys, got 'just text' (sweep.yaml)"),
        (b"name: caf\xe9\n", "a sweep file is UTF-8, got byte 0xe9 (line 1 of sweep.yaml)"),
        (FILE.encode("utf-16"), "a sweep file is UTF-8, got byte 0xff (line 1 of sweep.yaml)"),
        (b"name: \x00\n", "not valid YAML: "),
        (
            "a: " + "[" * 40 + "]" * 40,
            "a sweep nests at most 32 deep, this goes deeper (line 1 of sweep.yaml)",
        ),
        ("[" * 200_000, "a sweep nests at most 32 deep, this goes deeper (line 1 of sweep.yaml)"),
        ("a: &a [*a]", "a sweep nests at most 32 deep, this goes deeper (line 1 of sweep.yaml)"),
        ("#" * (1 << 20) + "\n", "a sweep file holds at most 1,048,576 bytes, '"),
        (
            "a: [" + "x," * 120_000 + "]",
            "a sweep holds at most 100,000 values, this one holds more (line 1 of sweep.yaml)",
        ),
    ],
    ids=[
        "empty",
        "comment",
        "list",
        "text",
        "latin-1",
        "utf-16",
        "nul",
        "deep",
        "deeper",
        "loop",
        "large",
        "many",
    ],
)
def test_invalid_sweep_files_are_refused(content: str | bytes, message: str, write: Any) -> None:
    assert refusal(write(content)).startswith(message)


def test_aliases_cannot_multiply_beyond_the_limit(write: Any) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
    assert refusal(write(bomb)).startswith("a sweep holds at most 100,000 values, this one holds more (line ")


def test_aliases_that_stay_small_are_read(write: Any) -> None:
    text = FILE.replace("[50, 100]", "&sizes [50, 100]").replace("[2, 5]", "*sizes")
    assert load_spec(write(text)).space().dimensions["training.early_stopping.patience"].grid() == [50, 100]


def test_a_byte_order_mark_is_ignored(write: Any) -> None:
    assert load_spec(write(b"\xef\xbb\xbf" + FILE.encode())).name == "fashion-mlp"


def test_no_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "is not there\n" in refusal(tmp_path / "none.yaml")
    assert "is a folder\n" in refusal(tmp_path)
    (tmp_path / "train.py").write_text("x = 1\n")
    assert "is Python\ngive the file that names it" in refusal(tmp_path / "train.py")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1.0e-4", 1e-4), ("1E3", 1000.0), (".5", 0.5), ("-3.", -3.0), ("+7", 7), ("010", 10),
        ("0x1F", 31), ("0o17", 15), ("~", None), ("", None), ("null", None), ("TRUE", True), ("false", False),
        ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"),
        ("e4", "e4"),
    ],
)  # fmt: skip
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1) | st.booleans())
def test_what_python_writes_is_read_back(value: float | bool) -> None:
    assert resolve(str(value)) == value


@given(st.text("0123456789.eE+-_xobinfaINFtrue~", max_size=12))
def test_no_scalar_raises_anything_but_a_rule(text: str) -> None:
    with contextlib.suppress(RuleError):
        resolve(text)


def test_quotes_keep_text_text(write: Any) -> None:
    spec = load_spec(write(FILE.replace("[50, 100]", "['1e-4', 1e-4, \"true\", no]")))
    assert spec.space().dimensions["units"].grid() == ["1e-4", 1e-4, "true", "no"]


def test_a_python_mapping_is_taken_with_numpys_numbers_and_tuples() -> None:
    spec = parse_spec(
        {
            **LEAST,
            "seed": np.int64(3),
            "parameters": {"a": {"values": (np.float32(0.5), 1)}},
            "training": {"epochs": 1, "class_weight": {0: 1.0, 1: 2}},
        }
    )
    assert spec.seed == 3
    assert spec.space().dimensions["a"].grid() == [0.5, 1]
    assert spec.training_for({"a": 1}).class_weight == {0: 1.0, 1: 2.0}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"seed": object}, "seed must be a plain value, got <class 'object'> (seed)"),
        ({"seed": float("nan")}, "numbers must be finite, got nan (seed)"),
        (
            {"parameters": {"a": {"values": [1, float("inf")]}}},
            "numbers must be finite, got inf (parameter 'a')",
        ),
        ({"nam": 1}, "unknown key 'nam' (nam)"),
    ],
)
def test_a_python_mapping_is_checked_like_a_file(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({**LEAST, **mapping})
    assert str(caught.value).startswith(message)


ODD = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 1e308, 2**62, "", "constant", "x" * 5000, [], [1], {}, {"values": []}),
        *({"values": [1, 2]}, {"value": 3}, {"values": {"values": [1]}}, {"min": 1}, {"distribution": {}}),
        *({"distribution": "uniform", "min": 0, "max": 1}, {"values": [1], "when": {"units": [50]}}),
    ]
)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_value_anywhere_raises_anything_but_a_readable_error(data: st.DataObject) -> None:
    sweep = yaml.safe_load(FILE)
    for _ in range(data.draw(st.integers(1, 3))):
        block = data.draw(st.sampled_from(list(_blocks(sweep))))
        key = data.draw(st.sampled_from([*block, "values", "when", "nonsense"]))
        block[key] = copy.deepcopy(data.draw(ODD))
    try:
        spec = parse_spec(sweep)
    except SpecError as error:
        rule, remedy = str(error).splitlines()
        assert len(rule) < 300 > len(remedy) > 0
    else:
        assert SweepSpec.model_validate(json.loads(spec.model_dump_json())) == spec
        params = spec.space().sample(np.random.default_rng(0))
        assert spec.training_for(params).epochs > 0
        assert spec.planned_trials() > 0


def _blocks(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _blocks(item)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_text_raises_anything_but_a_readable_error(data: st.DataObject) -> None:
    text = FILE
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 2))
        text = (
            text[:at] + data.draw(st.text("{}[]:,-&*!#|>\"'\t\n %@`?~.0e\0é", max_size=3)) + text[at + cut :]
        )
    with contextlib.suppress(SpecError):
        assert isinstance(parse_sheet(text).data, dict)


def test_anything_but_a_mapping_is_refused() -> None:
    with pytest.raises(SpecError, match="a sweep is a mapping of keys"):
        parse_spec([1])  # type: ignore[arg-type]


def test_inconsistent_values_are_refused_for_a_trial() -> None:
    spec = parse_spec({**LEAST, "training": {"epochs": {"values": [1, 2]}}})
    with pytest.raises(SpecError, match="epochs must be at least 1, got 0"):
        spec.training_for({"training.epochs": 0})


def test_the_schema_has_every_key_and_allows_distributions_under_training() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(SweepSpec.model_fields)
    assert schema["additionalProperties"] is False
    distribution = {"$ref": "#/$defs/Distribution"}
    for block in ("Training", "EarlyStopping", "ReduceOnPlateau", "StepDecay", "Cosine", "TensorBoard"):
        for value in schema["$defs"][block]["properties"].values():
            assert distribution in value["anyOf"]
    assert distribution not in schema["properties"]["seed"].get("anyOf", [])
    assert json.loads(json.dumps(schema)) == schema
    assert _dangling(schema) == set()


def _dangling(schema: dict[str, Any]) -> set[str]:
    text = json.dumps(schema)
    named = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    return named - set(schema["$defs"])


def test_reading_a_sweep_loads_nothing_heavy() -> None:
    listing = "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    code = f"import sys, kerasweep.jobs.sweepfile.spec; {listing}"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"tensorflow", "keras", "optuna", "numpy", "sqlalchemy", "celery", "yaml"}.isdisjoint(loaded)


@pytest.mark.parametrize("rule", [{"halving": {}}, {"halving": {"min_epochs": 1}}, {"median": {}}])
def test_trials_of_one_epoch_are_not_compared(rule: dict[str, Any]) -> None:
    with pytest.raises(
        SpecError, match=r"compares trials before their last epoch, got training\.epochs: 1"
    ) as told:
        parse_spec({**LEAST, "training": {"epochs": 1}, "stopping": rule})
    (name,) = rule
    assert str(told.value).splitlines()[1] == f"remove `{name}` under stopping, or train for more epochs"


def test_start_points_need_not_name_what_has_one_value() -> None:
    content = {**LEAST, "method": "random", "parameters": {"pause": 0.4, "units": {"values": [1, 2]}}}
    content["budget"] = {"max_trials": 2}
    points = [{"pause": 0.4, "units": 1}, {"pause": 0.4, "units": 2}]
    assert parse_spec({**content, "start": [{"units": 1}, {"units": 2}]}).start_points() == points
    with pytest.raises(SpecError, match="start points must differ"):
        parse_spec({**content, "start": [{"units": 1}, {"units": 1, "pause": 0.4}]})
    with pytest.raises(SpecError, match="pause must be"):
        parse_spec({**content, "start": [{"units": 1, "pause": 0.5}]})

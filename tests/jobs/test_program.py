"""A job's file is read without running it: what its functions take, and whether the sweep matches them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.code.program import Signature, check, read_program
from kerasweep.jobs.errors import ProgramError
from kerasweep.jobs.sweepfile.spec import SweepSpec, parse_spec

JOB = """\
import no_such_module

def load_data(scaler="standard"):
    raise SystemExit("a job is never run to be read")

def build_model(units, learning_rate=0.01, *, dropout=0.5, activation):
    pass
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(source: str | bytes, name: str = "train.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.encode() if isinstance(source, str) else source)
        return path

    return write_file


def sweep(**parameters: Any) -> SweepSpec:
    return parse_spec(
        {
            "name": "a",
            "job": "train.py",
            "metric": {"name": "loss", "goal": "minimize"},
            "method": "grid",
            "parameters": parameters,
            "training": {"epochs": {"values": [1, 2]}},
        }
    )


def refusal(path: Path) -> str:
    with pytest.raises(ProgramError) as caught:
        read_program(path)
    return checked(caught.value)


def misfit(spec: SweepSpec, path: Path) -> str:
    with pytest.raises(ProgramError) as caught:
        check(spec, read_program(path))
    return checked(caught.value)


def checked(error: ProgramError) -> str:
    """Return an error's message, after checking that it has a rule and a remedy and no more."""
    assert len(str(error).splitlines()) == 2
    return str(error)


def build_model_of(path: Path) -> Signature:
    return read_program(path).functions["build_model"]


def test_signatures_are_read_and_nothing_is_run(write: Any) -> None:
    program = read_program(write(JOB))
    assert program.functions == {
        "load_data": Signature((), ("scaler",), line=3),
        "build_model": Signature(("units", "activation"), ("learning_rate", "dropout"), line=6),
    }


def test_values_are_routed_by_name(write: Any) -> None:
    program = read_program(write(JOB + "def callbacks(**anything): pass\n"))
    params = {"units": 50, "scaler": "minmax", "training.early_stopping.patience": 3}
    assert program.route(params) == {
        "load_data": {"scaler": "minmax"},
        "build_model": {"units": 50},
        "callbacks": {"units": 50, "scaler": "minmax"},
    }


LOAD = "def load_data(): pass\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def build_model(units): pass", Signature(("units",), line=2)),
        ("build_model = lambda units=3: None", Signature((), ("units",), line=2)),
        ("def make(units): pass\nbuild_model = make", Signature(("units",), line=2)),
        ("build_model: object = lambda units: None", Signature(("units",), line=2)),
        ("@staticmethod\ndef build_model(units=1): pass", Signature((), ("units",), line=3)),
        ("if True:\n    def build_model(units): pass", Signature(("units",), line=3)),
        ("try:\n  def build_model(a): 0\nexcept E:\n  def build_model(b): 0", Signature(("a",), line=3)),
        ("def build_model(a): pass\ndef build_model(b): pass", Signature(("b",), line=3)),
        ("def build_model(a): 0\nif __name__ == '__main__': build_model = 0", Signature(("a",), line=2)),
        ("from elsewhere import build_model", Signature(any_keyword=True, line=2)),
        ("from elsewhere import make as build_model", Signature(any_keyword=True, line=2)),
        ("import functools\nbuild_model = functools.partial(print)", Signature(any_keyword=True, line=3)),
        ("class build_model: pass", Signature(any_keyword=True, line=2)),
        ("one, build_model = 1, lambda units: None", Signature(("units",), line=2)),
        ("one, build_model = made()", Signature(any_keyword=True, line=2)),
        ("build_model = build_model", Signature(any_keyword=True, line=2)),
    ],
)  # fmt: skip
def test_a_function_is_found_however_it_is_defined(source: str, expected: Signature, write: Any) -> None:
    assert build_model_of(write(LOAD + source)) == expected


@pytest.mark.parametrize(
    "statement",
    ["from model import build_model", "from model import make as build_model", "from model import *"],
)
def test_an_import_is_followed_into_a_file_beside_the_job(statement: str, write: Any) -> None:
    write("def make(units, depth=2): pass\nbuild_model = make\n", "model.py")
    found = build_model_of(write(LOAD + statement))
    assert (found.required, found.optional, found.any_keyword) == (("units",), ("depth",), False)


def test_an_import_is_followed_through_packages(write: Any) -> None:
    write("from nets.dense import build_model\n", "nets/__init__.py")
    write("def build_model(units): pass\n", "nets/dense.py")
    assert build_model_of(write(LOAD + "from nets import build_model")).required == ("units",)


def test_circular_imports_are_resolved(write: Any) -> None:
    write("from train import build_model\n", "model.py")
    assert build_model_of(write(LOAD + "from model import build_model")).any_keyword


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def load_data(: pass", "a job is Python, 'train.py' is not: invalid syntax (line 1 of train.py)"),
        (b"\n# caf\xe9\n", "a job is UTF-8 or declares its encoding, got byte 0xe9 (line 2 of train.py)\n"),
        (b"x = '\0'", "a job is Python, 'train.py' "),
        ("(" * 5000, "a job is Python, 'train.py' "),
        ("#" * (4 << 20) + "\n", "a job's file holds at most 4,194,304 bytes, '"),
        ("", "a job defines load_data, 'train.py' does not\nadd `def load_data(...)`, which returns {"),
        (LOAD, "a job defines build_model, 'train.py' does not\nadd `def build_model(...)`, which"),
        (LOAD + "def build_modle(): pass",
         "a job defines build_model, 'train.py' does not\ndid you mean 'build_modle'?"),
        (LOAD + "def build_model(*units): pass",
         "build_model must name its arguments, got *units (line 2 of train.py)\nname each hyperparameter"),
        (LOAD + "def build_model(a, /): pass",
         "build_model must take its arguments by name, got 'a' before a / (line 2 of train.py)\nremove"),
        (LOAD + "async def build_model(): pass",
         "build_model must be a plain function, got an async one (line 2 of train.py)\nwrite `def"),
    ],
    ids=["syntax", "latin", "nul", "deep", "large", "empty", "half", "misspelt", "args", "order", "async"],
)  # fmt: skip
def test_invalid_jobs_are_refused(source: str | bytes, message: str, write: Any) -> None:
    assert refusal(write(source)).startswith(message)


def test_another_encoding_may_be_declared(write: Any) -> None:
    assert read_program(write(b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + JOB.encode())).functions


def test_an_invalid_escape_is_accepted(write: Any) -> None:
    assert read_program(write("x = '\\d'\n" + JOB)).functions


def test_no_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.py").splitlines()[1] == "set `job:` to its path from the sweep file"
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(write: Any) -> None:
    path = write(JOB)
    path.chmod(0)
    assert "cannot be read: Permission denied" in refusal(path)


def test_a_matching_sweep_passes(write: Any) -> None:
    check(sweep(units={"values": [1, 2]}, activation="relu", scaler="minmax"), read_program(write(JOB)))


CONDITIONAL = {"value": 1, "when": {"scaler": ["standard"]}}


@pytest.mark.parametrize(
    ("parameters", "rule", "remedy"),
    [
        (
            {"lerning_rate": 1},
            "no function of 'train.py' takes the parameter 'lerning_rate'",
            "did you mean 'learning_rate'?",
        ),
        (
            {"patience": 1},
            "no function of 'train.py' takes the parameter 'patience'",
            "known here: scaler, units, activation, learning_rate, dropout",
        ),
        (
            {"activation": "relu"},
            "build_model() needs the argument 'units', and no parameter gives it (line 6 of train.py)",
            "add `units: {values: [...]}` under parameters, or give it a default",
        ),
        (
            {"activation": "relu", "scaler": {"values": ["standard", "minmax"]}, "units": CONDITIONAL},
            "build_model() always needs 'units', the parameter has a `when` (line 6 of train.py)",
            "give the argument a default",
        ),
    ],
)
def test_a_mismatched_sweep_is_refused(parameters: Any, rule: str, remedy: str, write: Any) -> None:
    assert misfit(sweep(**parameters), write(JOB)) == f"{rule}\n{remedy}"


def test_a_job_without_arguments_is_told_how_to_take_one(write: Any) -> None:
    path = write(LOAD + "def build_model(): pass")
    assert misfit(sweep(units=1), path).splitlines()[1] == "write `def build_model(units=...)`"


@pytest.mark.parametrize(
    ("name", "told"),
    [("train.v2.py", "such as train_v2.py"), ("no_such_module.py", "such as no_such_module_job.py")],
)
def test_a_name_under_which_python_does_not_find_the_job_is_refused(name: str, told: str, write: Any) -> None:
    assert told in refusal(write(JOB, name))

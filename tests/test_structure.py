"""Enforces the structure of the code base: allowed imports, what a command loads, and module lengths."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from mypy.main import process_options

ROOT = Path(__file__).parents[1]
FACE = ROOT / "kerasweep"
FOLDERS = ("jobs", "scheduler", "workers")
MAY_IMPORT = {"jobs": {"jobs"}, "scheduler": {"scheduler", "jobs"}, "workers": {"workers", "jobs"}}
TRAINER = "kerasweep.workers.trainer"
#: The packages that load TensorFlow; nothing else may.
HEAVY_ROOMS = (TRAINER, "kerasweep.workers.models")
LONGEST_MODULE = 400
MOST_ROOMS = 16
HEAVY = {"tensorflow", "keras", "optuna"}


@cache
def modules() -> dict[str, Path]:
    """Return each module's import name and file, without the gallery, which nothing imports."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT)
            if "gallery" not in inside.parts:
                found[".".join(["kerasweep", *inside.with_suffix("").parts]).removesuffix(".__init__")] = path
    return found


def imported(name: str) -> Iterator[tuple[str, int]]:
    """Yield every module that a module imports, at top level or inside a function, and the line."""
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import; write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole if whole in modules() else str(node.module)), node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            yield from ((str(arg.value), node.lineno) for arg in node.args if isinstance(arg, ast.Constant))


def in_trainer(name: str) -> bool:
    """Tell whether a module belongs to a package that may load TensorFlow."""
    return any(name == room or name.startswith(f"{room}.") for room in HEAVY_ROOMS)


def folder_of(name: str) -> str:
    """Return the folder of a module: `kerasweep.jobs.sweepfile.spec` belongs to `jobs`."""
    return name.split(".")[1]


def ours() -> dict[str, set[str]]:
    """Return, for each module, the modules of kerasweep that it imports."""
    return {
        name: {other for other, _ in imported(name) if other.startswith("kerasweep.")} for name in modules()
    }


def test_there_are_modules_to_check() -> None:
    assert {folder_of(name) for name in modules() if name.count(".") > 1} == set(FOLDERS)
    assert any(edges for edges in ours().values())


def test_imports_go_from_scheduler_and_workers_to_jobs_only() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in ours().items()
        for other in others
        if folder_of(other) not in MAY_IMPORT[folder_of(name)]
    ]
    assert wrong == []


def test_the_trainer_imports_only_jobs_and_itself() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in ours().items()
        if in_trainer(name)
        for other in others
        if not in_trainer(other) and folder_of(other) != "jobs"
    ]
    assert wrong == []


def test_only_the_trainer_imports_tensorflow_and_keras() -> None:
    wrong = [
        f"{name}:{line} imports {other}"
        for name in modules()
        if not in_trainer(name)
        for other, line in imported(name)
        if other.split(".")[0] in ("tensorflow", "keras", "tensorboard")
    ]
    assert wrong == []


def test_the_folders_are_never_imported_by_their_bare_names() -> None:
    wrong = [
        f"{name}:{line} imports {other}"
        for name in modules()
        for other, line in imported(name)
        if other.split(".")[0] in FOLDERS
    ]
    assert wrong == []


def test_every_module_that_is_imported_is_there() -> None:
    wrong = [
        f"{name} imports {other}" for name, others in ours().items() for other in others - set(modules())
    ]
    assert wrong == []


def test_there_is_no_cycle_of_imports() -> None:
    assert cycle(ours()) is None


def cycle(edges: dict[str, set[str]]) -> list[str] | None:
    """Return the names along a cycle, or None."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        found = next(
            (way for other in sorted(edges.get(name, ())) if (way := walk(other, [*path, name]))), None
        )
        done.add(name)
        return found

    return next((way for name in sorted(edges) if (way := walk(name, []))), None)


def test_the_search_for_cycles_finds_one() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_modules_are_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_folders_are_three_deep() -> None:
    deep = [str(path) for path in modules().values() if len(path.relative_to(ROOT).parts) > 4]
    assert deep == []


def test_a_folder_holds_some_dozen_modules() -> None:
    rooms = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    assert {
        str(folder.relative_to(ROOT)): count for folder, count in rooms.items() if count > MOST_ROOMS
    } == {}


def test_file_names_are_unique() -> None:
    names = Counter(path.name for path in modules().values() if path.name != "__init__.py")
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_class_names_are_unique() -> None:
    names = Counter(
        node.name
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_slot_is_the_only_word_for_a_slot() -> None:
    found = [
        name for name, path in modules().items() if re.search(r"(?i)\bseats?\b", path.read_text("utf-8"))
    ]
    assert found == []


def test_every_package_is_listed_for_the_wheel() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    folders = {".".join(["kerasweep", *path.parent.relative_to(ROOT).parts]) for path in modules().values()}
    assert folders == packages, "a folder of modules without an __init__.py"
    assert set(tool["packages"]) == packages | {"kerasweep"}


def test_the_links_for_type_checkers_lead_to_the_folders() -> None:
    for folder in FOLDERS:
        link = ROOT / ".types" / "kerasweep" / folder
        assert link.is_symlink()
        assert link.resolve() == ROOT / folder
    for path in FACE.glob("*.py"):
        link = ROOT / ".types" / "kerasweep" / path.name
        assert link.is_symlink()
        assert link.resolve() == path


def test_import_names_lead_to_this_folder() -> None:
    for folder in FOLDERS:
        spec = importlib.util.find_spec(f"kerasweep.{folder}")
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin) == ROOT / folder / "__init__.py", "another kerasweep is installed"


def loaded_by(program: str) -> set[str]:
    """Return the top-level modules that a new Python process has loaded after running `program`."""
    report = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = """
import contextlib, io, sys
from importlib.metadata import entry_points
main = next(iter(entry_points(group="console_scripts", name="kerasweep"))).load()
sys.argv = ["kerasweep", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        main()
    except SystemExit as exc:
        assert not exc.code, exc.code
assert "submit" in out.getvalue(), out.getvalue()
"""


def test_help_loads_neither_tensorflow_nor_optuna() -> None:
    assert loaded_by(HELP) & HEAVY == set()


@pytest.mark.parametrize("side", ["scheduler", "workers"])
def test_neither_side_loads_tensorflow(side: str) -> None:
    names = [name for name in modules() if folder_of(name) in (side, "jobs") and not in_trainer(name)]
    program = "\n".join(f"import {name}" for name in names if not name.endswith("__main__"))
    assert loaded_by(program) & {"tensorflow", "keras"} == set()


def test_mypy_checks_every_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sources, options = process_options(["--config-file", str(ROOT / "pyproject.toml")])
    assert options.strict_equality
    assert options.disallow_untyped_defs
    assert set(modules()) <= {source.module for source in sources}

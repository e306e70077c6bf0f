"""Reads Python source without running it: its syntax tree, and the files beside it that it imports."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from kerasweep.jobs.errors import ProgramError
from kerasweep.jobs.sweepfile.rules import nearby

LIMIT_BYTES = 4 << 20


def read_module(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file.

    Raises:
        ProgramError: the file is missing, unreadable, too large, or not Python.
    """
    data = _read_bytes(path)
    _check_encoding(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings such as invalid escapes are not our business
            return ast.parse(data, filename=str(path))
    except SyntaxError as error:
        where = f"line {error.lineno} of {path.name}" if error.lineno else path.name
        rule = f"a job is Python, '{path.name}' is not: {error.msg} ({where})"
        raise ProgramError(f"{rule}\nfix it until `python {path.name}` starts") from error
    except (ValueError, RecursionError, MemoryError) as error:
        rule = f"a job is Python, '{path.name}' cannot be parsed: {error}"
        raise ProgramError(f"{rule}\nfix it until `python {path.name}` starts") from error


def _check_encoding(data: bytes, path: Path) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:  # an unknown encoding, which the parser will report, or none declared and not UTF-8
        encoding = "utf-8"
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        rule = f"a job is UTF-8 or declares its encoding, got byte 0x{data[error.start]:02x}"
        raise ProgramError(f"{rule} (line {line} of {path.name})\nsave the file as UTF-8") from error


def imported_names(module: ast.Module) -> Iterator[str]:
    """Yield the top-level names that a module imports anywhere in it."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def dynamic_imports(module: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the modules that are imported by name at run time, as with `importlib.import_module`.

    Yields:
        A top-level name and True, or a prefix of one, perhaps empty, and False.
    """
    known = {
        node.targets[0].id: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and _called_name(node) in _IMPORTERS and node.args:
            text, whole = _beginning(node.args[0], known)
            if text.startswith("."):
                package = node.args[1] if len(node.args) > 1 else _given(node, "package")
                text, whole = ("", False) if package is None else _beginning(package, known)
            top, dot, _ = text.partition(".")
            yield top, whole or bool(dot)


#: Functions whose first argument names a module.
_IMPORTERS = frozenset(
    {"import_module", "__import__", "find_spec", "import_string", "run_module", "resolve_name"}
)


def _called_name(call: ast.Call) -> str:
    func = call.func
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _given(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def _beginning(node: ast.expr, known: Mapping[str, str]) -> tuple[str, bool]:
    """Return the literal text that an expression begins with, and whether that is all of it."""
    if isinstance(node, ast.Constant):
        return str(node.value), True
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id], True
    if isinstance(node, ast.JoinedStr):
        text = ""
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            more, whole = _beginning(inner, known)
            text += more
            if not whole:
                return text, False
        return text, True
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, whole = _beginning(node.left, known)
        right, end = _beginning(node.right, known) if whole else ("", False)
        return left + right, whole and end
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _beginning(node.left, known)[0].partition("%")[0], False
    if isinstance(node, ast.Call) and _called_name(node) == "format" and isinstance(node.func, ast.Attribute):
        return _beginning(node.func.value, known)[0].partition("{")[0], False
    return "", False


def find_beside(folder: Path, module: str) -> Path | None:
    """Return the file of a module in `folder`, or None.

    Args:
        folder: the job's folder, which Python searches first.
        module: a dotted name.
    """
    place = folder.joinpath(*module.split("."))
    for path in (place / "__init__.py", place.with_name(place.name + ".py")):
        if path.is_file():
            return path
    return None


def missing(path: Path, where: str = "") -> ProgramError:
    """Return the error for a job that is no file, with the nearest one beside it.

    Args:
        path: where it should be.
        where: the line of the sweep file that names it, in brackets, if known.
    """
    what = "is a folder" if path.is_dir() else "is not there"
    remedy = f"set `job:` to its path from the sweep file{nearby(path, '.py')}"
    return ProgramError(f"a job is a Python file, '{path}' {what}{where}\n{remedy}")


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise missing(path)
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        rule = f"a job is a Python file, '{path}' cannot be read: {error.strerror}"
        raise ProgramError(f"{rule}\ncheck its permissions") from error
    if len(data) > LIMIT_BYTES:
        rule = f"a job's file holds at most {LIMIT_BYTES:,} bytes, '{path}' is larger"
        raise ProgramError(f"{rule}\nload data from a file of their own")
    return data

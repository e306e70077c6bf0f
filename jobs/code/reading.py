"""Python source read without running it: its syntax tree, and the files beside it that it imports."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from kerasweep.jobs.errors import ProgramError

LIMIT_BYTES = 4 << 20


def read_module(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file.

    Raises:
        ProgramError: it is not there, not readable, too large, or not Python.
    """
    data = _read_bytes(path)
    _check_encoding(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape: the job's own business
            return ast.parse(data, filename=str(path))
    except SyntaxError as error:
        where = f"line {error.lineno} of {path.name}" if error.lineno else path.name
        rule = f"a job is Python, '{path.name}' is not: {error.msg} ({where})"
        raise ProgramError(f"{rule}\nmend it until `python {path.name}` starts") from error
    except (ValueError, RecursionError, MemoryError) as error:
        rule = f"a job is Python, '{path.name}' cannot be parsed: {error}"
        raise ProgramError(f"{rule}\nmend it until `python {path.name}` starts") from error


def _check_encoding(data: bytes, path: Path) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError:  # an unknown one, which the parser will name, or none and not UTF-8
        encoding = "utf-8"
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        rule = f"a job is UTF-8 or declares what it is, got byte 0x{data[error.start]:02x}"
        raise ProgramError(f"{rule} (line {line} of {path.name})\nsave the file as UTF-8") from error


def imported_names(module: ast.Module) -> Iterator[str]:
    """Yield the top-level names that a module imports, wherever in it the imports stand."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def find_beside(folder: Path, module: str) -> Path | None:
    """Return the file of a module that lies in `folder`, or None.

    Args:
        folder: where the job lies, which Python puts first on its path.
        module: a dotted name.
    """
    place = folder.joinpath(*module.split("."))
    for path in (place / "__init__.py", place.with_name(place.name + ".py")):
        if path.is_file():
            return path
    return None


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise ProgramError(
            f"a job is a Python file, '{path}' {what}\nset `job:` to its path from the sweep file"
        )
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        rule = f"a job is a Python file, '{path}' cannot be read: {error.strerror}"
        raise ProgramError(f"{rule}\ncheck its permissions") from error
    if len(data) > LIMIT_BYTES:
        rule = f"a job's file holds at most {LIMIT_BYTES:,} bytes, '{path}' holds more"
        raise ProgramError(f"{rule}\nload data from a file of their own")
    return data

"""A sweep as plain values, from a YAML file or from Python, that knows where each value stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from kerasweep.jobs.errors import SpecError
from kerasweep.jobs.sweepfile.rules import Mass, Path, RuleError, nearby, not_finite, show

LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Sheet:
    """A mapping of plain values with their positions.

    Args:
        data: str keys; None, bool, int, finite float, str, list and dict values.
        lines: the line, from 1, of each key and list item.
        source: the file's name; empty if the data came from Python.
    """

    data: Mapping[str, Any]
    lines: Mapping[Path, int] = field(default_factory=dict)
    source: str = ""

    def error(self, breach: RuleError) -> SpecError:
        """Return an error of two lines that names the key, the line and the file."""
        rule, at = breach.rule, self.clip(breach.at)
        if rule.startswith("must "):
            rule = f"{_last_key(breach.at)} {rule}"
        places = [place for place in (_describe(at), self.place_of(at, breach.line)) if place]
        where = f" ({', '.join(places)})" if places else ""
        return SpecError(f"{rule}{where}\n{breach.remedy}")

    def clip(self, path: Path) -> Path:
        """Return the longest part of a path that exists in the data, skipping unknown steps."""
        here: Any = self.data
        held: list[str | int] = []
        for step in path:
            if isinstance(here, list) and str(step).isdigit() and int(step) < len(here):
                step = int(step)
            elif not (isinstance(here, Mapping) and step in here):
                continue
            here = here[step]
            held.append(step)
        return tuple(held)

    def place_of(self, at: Path, line: int | None = None) -> str:
        """Return "line 7 of sweep.yaml" for a path, or as much of it as is known."""
        while line is None and at:
            line, at = self.lines.get(at), at[:-1]
        if line is None:
            return self.source
        return f"line {line} of {self.source}" if self.source else f"line {line}"


def read_sheet(path: FilePath) -> Sheet:
    """Read a YAML file.

    Raises:
        SpecError: it is missing, not UTF-8, not a YAML mapping of plain values, or beyond the limits.
    """
    return parse_sheet(_decode(_read_bytes(path), path.name), path.name)


def parse_sheet(text: str, source: str = "") -> Sheet:
    """Read YAML text; see `read_sheet`."""
    from kerasweep.jobs.sweepfile.plain_yaml import read_yaml  # workers read stored sweeps and need no YAML

    try:
        data, lines = read_yaml(text)
    except RuleError as breach:
        raise Sheet({}, {}, source).error(breach) from breach
    if not isinstance(data, dict):
        got = "an empty file" if data is None else show(data)
        rule = f"a sweep file holds a mapping of keys, got {got}"
        raise Sheet({}, {}, source).error(RuleError(rule, "begin with `name:`, `job:` and `metric:`"))
    return Sheet(data, lines, source)


def sheet_of(mapping: object) -> Sheet:
    """Return a sheet of Python values: keys become text, tuples lists, NumPy scalars plain numbers.

    Raises:
        SpecError: a value is not plain, or the whole is beyond the limits.
    """
    if not isinstance(mapping, Mapping):
        raise SpecError(f"a sweep is a mapping of keys, got {show(mapping)}\npass a dict, or load a file")
    mass = Mass()
    try:
        return Sheet({str(key): _plain(value, (str(key),), mass) for key, value in mapping.items()})
    except RuleError as breach:
        raise Sheet(mapping).error(breach) from breach


def _plain(value: Any, path: Path, mass: Mass) -> Any:
    mass.add(len(path))
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, (*path, str(key)), mass) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*path, index), mass) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise not_finite(value).within(*path)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    remedy = "use text, numbers, booleans, None, lists and dicts"
    raise RuleError(f"must be a plain value, got {show(value)}", remedy, path)


def _read_bytes(path: FilePath) -> bytes:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        remedy = f"give the path of a YAML file{nearby(path, '.yaml', '.yml')}"
        raise SpecError(f"a sweep file is needed, '{path}' {what}\n{remedy}")
    if path.suffix == ".py":
        raise SpecError(f"a sweep file is YAML, '{path}' is Python\ngive the file that names it under `job:`")
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        rule = f"a sweep file is needed, '{path}' cannot be read: {error.strerror}"
        raise SpecError(f"{rule}\ncheck its permissions") from error
    if len(data) > LIMIT_BYTES:
        rule = f"a sweep file holds at most {LIMIT_BYTES:,} bytes, '{path}' is larger"
        raise SpecError(f"{rule}\nmake it smaller")
    return data


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        rule = f"a sweep file is UTF-8, got byte 0x{data[error.start]:02x} (line {line} of {source})"
        raise SpecError(f"{rule}\nsave the file as UTF-8") from error


def _last_key(path: Path) -> str:
    return next((step for step in reversed(path) if isinstance(step, str)), "the sweep")


def _describe(path: Path) -> str:
    if len(path) > 1 and path[0] == "parameters":
        return f"parameter '{path[1]}'"
    return ".".join(map(str, path))

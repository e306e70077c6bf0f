"""Errors in an input before its file and line are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath

#: The position of a value in a sheet: keys and list indices from the top.
Path = tuple[str | int, ...]

LIMIT_DEPTH = 32
LIMIT_VALUES = 100_000

_WORDS = {"None": "null", "True": "true", "False": "false"}
_WIDTH = 60  # how much of a value a message shows, in characters
_MOST_FILES = 8


class RuleError(ValueError):
    """A rule that a value breaks.

    Args:
        rule: the rule and the value, in one line. A rule that begins with "must" is about the key at `at`.
        remedy: what to write instead, in one line.
        at: the position, relative to what the raiser knows.
        line: the line of the file, from 1, if known.
    """

    def __init__(self, rule: str, remedy: str, at: Path = (), line: int | None = None) -> None:
        super().__init__(rule)
        self.rule, self.remedy, self.at, self.line = rule, remedy, at, line

    def within(self, *path: str | int) -> RuleError:
        """Return the same error with its position seen from further up."""
        return RuleError(self.rule, self.remedy, (*path, *self.at), self.line)


def show(value: object, *, bare: bool = False) -> str:
    """Format a value as in a sweep file, cut to one short line; text in quotes unless `bare`."""
    text = repr(value) if isinstance(value, str) and not bare else _flow(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def nearest(word: object, known: Iterable[str]) -> str:
    """Return a remedy that suggests the known word nearest to `word`, or lists them all."""
    names = list(known)
    near = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    near = near or [name for name in names if len(str(word)) > 2 and name.startswith(str(word))]
    if len(near) == 1:
        return f"did you mean '{near[0]}'?"
    listed = ", ".join(names)
    return f"known here: {listed if len(listed) <= 400 else listed[:399] + '…'}"


def nearby(path: FilePath, *suffixes: str) -> str:
    """Return "; did you mean 'train.py'?", or the files beside a missing one, or nothing without any."""
    try:
        names = sorted(file.name for file in path.parent.iterdir() if file.suffix in suffixes)
    except OSError:
        return ""
    stems = {FilePath(name).stem: name for name in names}  # with its ending, any name would be near
    near = difflib.get_close_matches(path.stem, stems, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{stems[near[0]]}'?"
    more = ", …" if len(names) > _MOST_FILES else ""
    return f"; there are {', '.join(names[:_MOST_FILES])}{more}" if names else ""


def not_finite(value: object) -> RuleError:
    """Return the error for a NaN or infinite number."""
    return RuleError(f"numbers must be finite, got {value}", "write a plain number, or null for none")


class Mass:
    """Counts values against the limits."""

    def __init__(self) -> None:
        self._values = 0

    def add(self, depth: int, line: int | None = None) -> None:
        """Count one value, `depth` levels below the top.

        Raises:
            RuleError: there are too many values, or this one is nested too deep.
        """
        self._values += 1
        if depth > LIMIT_DEPTH:
            rule = f"a sweep nests at most {LIMIT_DEPTH} deep, this goes deeper"
            raise RuleError(rule, "make it flatter, and let no alias contain itself", line=line)
        if self._values > LIMIT_VALUES:
            rule = f"a sweep holds at most {LIMIT_VALUES:,} values, this one holds more"
            remedy = "make it smaller; an alias (*name) counts every time it is used"
            raise RuleError(rule, remedy, line=line)


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value) if isinstance(value, str) else _WORDS.get(repr(value), repr(value))

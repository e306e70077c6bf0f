"""Reads YAML safely: plain values, limited in depth and size, each with its line.

Plain scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), not YAML 1.1
as in PyYAML: 1e-4 is a number, 010 is ten, and `no` and 1:30 are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from kerasweep.jobs.sweepfile.rules import Mass, Path, RuleError, not_finite, show

#: libyaml if PyYAML was built with it. "Base" resolves nothing: every plain scalar stays text.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset({_CORE + "str", _CORE + "seq", _CORE + "map"})


def read_yaml(text: str) -> tuple[Any, dict[Path, int]]:
    """Read one YAML document.

    Returns:
        Its value, and the line (from 1) of each key and list item in it.

    Raises:
        RuleError: not YAML, not plain values, or beyond the limits; its `line` is set.
    """
    reader = _YamlReader()
    try:
        _check_mass(text)
        root = yaml.compose(text, Loader=_LOADER)
        return None if root is None else reader.read(root, ()), reader.lines
    except yaml.YAMLError as error:
        raise _syntax_breach(error) from error
    except RuleError as breach:
        breach.line = breach.line or reader.line
        raise


def resolve(text: str) -> bool | int | float | str | None:
    """Return what an unquoted scalar means in YAML 1.2's core schema.

    Raises:
        RuleError: a number that is not finite or does not fit in 64 bits.
    """
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return _whole(text)
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
        raise not_finite(text)
    return float(text) if _FLOAT.fullmatch(text) else text


class _YamlReader:
    """Builds plain values from YAML nodes, expanding aliases, and keeps their lines."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.line = 1  # of the node being read
        self._mass = Mass()

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.line = _line_of(node.start_mark)
        self._mass.add(len(path))
        if node.tag not in _PLAIN_TAGS:
            rule = f"tags are not supported, got {_short_tag(node.tag)}"
            raise RuleError(rule, "write a plain value: text, number, true, false, null, list or mapping")
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self._read_at(item, item, (*path, index)) for index, item in enumerate(node.value)]
        return resolve(node.value) if _is_plain(node) else str(node.value)

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            self.line = _line_of(key.start_mark)
            name = _key_text(key)
            if name in seen:
                rule = f"a key stands once in a mapping, got '{name}' here and on line {seen[name]}"
                raise RuleError(rule, "keep one of the two")
            seen[name] = self.line
            yield name, self._read_at(key, value, (*path, name))

    def _read_at(self, mark: yaml.Node, node: yaml.Node, path: Path) -> Any:
        self.lines[path] = _line_of(mark.start_mark)
        return self.read(node, path)


def _check_mass(text: str) -> None:
    """Refuse excessive depth and size while the document is still a flat stream, since composing recurses."""
    depth, mass = 0, Mass()
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.NodeEvent):
            mass.add(depth, line=_line_of(event.start_mark))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)


def _line_of(mark: Any) -> int:
    return mark.line + 1 if mark else 1


def _is_plain(node: yaml.Node) -> bool:
    # libyaml gives plain scalars the style '', PyYAML's own parser None.
    return isinstance(node, yaml.ScalarNode) and not node.style


def _whole(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    # Checked before int(), which has its own error for thousands of digits.
    if len(text) > 40 or not -(1 << 63) <= int(text, base) < 1 << 63:
        rule = f"a whole number fits in 64 bits, got {show(text)}"
        raise RuleError(rule, "write a smaller number, or text in quotes")
    return int(text, base)


def _key_text(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise RuleError("a key must be plain text, got a list or mapping", "put text with {} or [] in quotes")
    if key.value == "<<" and _is_plain(key):
        raise RuleError("merge keys (<<) are not supported", "write the keys out")
    return str(key.value)


def _short_tag(tag: str) -> str:
    return "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag


def _syntax_breach(error: yaml.YAMLError) -> RuleError:
    marks = [getattr(error, name, None) for name in ("problem_mark", "context_mark")]
    if "expected ':'" in str(error):  # noticed only where the next key begins
        marks.reverse()
    line = _line_of(marks[0] or marks[1])
    if "single document" in str(error):
        rule = "a sweep file holds one document, got a second one"
        return RuleError(rule, "remove everything from the second --- on", line=line)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    remedy = "check the indentation, colons and quotes around there"
    if "start any token" in problem:
        remedy = "indent with spaces, not tabs, and put text that begins with @ ` or % in quotes"
    return RuleError(f"not valid YAML: {problem}", remedy, line=line)

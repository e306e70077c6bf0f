"""Points as people type them: NAME=VALUE, on a command line or in a form."""

from __future__ import annotations

from typing import Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.sweepfile.plain_yaml import read_yaml
from kerasweep.jobs.sweepfile.rules import RuleError


def read_pair(given: str) -> tuple[str, Any]:
    """Return a parameter's name and its value, which reads as in a sweep file.

    Raises:
        InputError: it is no pair, or the value cannot be read.
    """
    name, found, text = given.partition("=")
    if not found or not name:
        raise InputError(f"a value is given as NAME=VALUE, got {given!r}; such as learning_rate=0.01")
    try:
        return name, read_yaml(f"value: {text}")[0]["value"]
    except RuleError as breach:
        raise InputError(f"{name}: {breach.rule}\n{breach.remedy}") from breach

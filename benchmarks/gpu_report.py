"""The GPU run's report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def as_markdown(report: dict[str, Any]) -> str:
    """Return a report that a person can attach to an issue."""
    lines = [f"# kerasweep on a {report['device'].upper()}", ""]
    lines += [f"- {name}: {value}" for name, value in report["machine"].items()]
    for part in report["parts"]:
        found = dict(part["found"])
        rows = found.pop("rows", [])
        lines += ["", f"## {part['name']}: {part['state']}, {part['seconds']} s", ""]
        lines += [f"- {name}: {value}" for name, value in found.items()]
        if rows:
            lines += ["", *_table(rows)]
        if part["error"]:
            lines += ["", "```", part["error"].strip(), "```"]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return lines + [f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", " ").replace("|", "\\|")

"""Tables for notebooks: HTML with all values escaped, since they may contain markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def grid(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table with a header row."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def card(facts: Iterable[tuple[str, Any]]) -> str:
    """Return a table of names and values."""
    rows = "".join(f"<tr><th>{escape(name)}</th>{_cells([fact])}</tr>" for name, fact in facts)
    return f"<table><tbody>{rows}</tbody></table>"


def _cells(row: Iterable[Any]) -> str:
    return "".join(f"<td>{escape(str(cell))}</td>" for cell in row)

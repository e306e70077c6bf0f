"""What commands print: one document, as a table for people or as JSON, YAML or CSV for programs.

Documents go to stdout alone; everything else that a command says goes to stderr.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kerasweep.scheduler.client.report import flat

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Plain output is not cut to a width that nobody has: it goes into a file or another program.
_PLAIN_WIDTH = 1000


class OutputFormat(StrEnum):
    """How a command prints its document."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


def emit(document: Any, output: OutputFormat, table: Callable[[], RenderableType]) -> None:
    """Print a document to stdout.

    Args:
        document: plain values: a dict, or a list of dicts.
        output: how.
        table: makes what people see; called for `table` only.
    """
    if output is not OutputFormat.TABLE:
        text = render(document, output)
    elif sys.stdout.isatty():
        console().print(table())
        return
    else:
        with (plain := console()).capture() as capture:
            plain.print(table())
        text = "".join(line.rstrip() + "\n" for line in capture.get().splitlines())
    sys.stdout.write(text)
    sys.stdout.flush()


def render(document: Any, output: OutputFormat) -> str:
    """Return the document as text, with a newline at its end."""
    if output is OutputFormat.JSON:
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if output is OutputFormat.YAML:
        import yaml

        return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))
    return to_csv(document if isinstance(document, list) else [document])


def to_csv(documents: Sequence[dict[str, Any]]) -> str:
    """Return one line for each document, nested keys joined by dots; lists and mappings as JSON."""
    rows = [{key: _cell(value) for key, value in flat(document).items()} for document in documents]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue() if names else ""


def line(document: dict[str, Any]) -> None:
    """Print a document as one line of JSON, at once: a stream of them can be followed."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Tell a person something beside the document, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def console(*, stderr: bool = False) -> Console:
    """Return a rich console: plain and uncut where nobody watches, and without colour under NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    watched = stream.isatty()
    return Console(
        file=stream, width=None if watched else _PLAIN_WIDTH, highlight=False, soft_wrap=not watched
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value

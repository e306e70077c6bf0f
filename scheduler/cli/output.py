"""Prints one document per command: a table for people, or JSON, YAML or CSV for programs.

Only documents go to stdout; everything else goes to stderr.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.printable import as_cell, escaped, is_printable, printable
from kerasweep.scheduler.client.report import flat

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Output to a file or another program is not cut to a terminal's width.
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
        output: the format.
        table: makes the table; called for `table` only.
    """
    if output is not OutputFormat.TABLE:
        text = render(document, output)
    elif sys.stdout.isatty():
        console().print(table(), crop=False)
        return
    else:
        with (plain := console()).capture() as capture:
            plain.print(table())
        text = "".join(line.rstrip() + "\n" for line in capture.get().splitlines())
    sys.stdout.write(text)
    sys.stdout.flush()


def render(document: Any, output: OutputFormat) -> str:
    """Return the document as text, ending with a newline."""
    if output is OutputFormat.JSON:
        return escaped(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
    if output is OutputFormat.YAML:
        import yaml

        text = str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))
        return text if is_printable(text) else str(yaml.safe_dump(document, sort_keys=False, width=100))
    return to_csv(document if isinstance(document, list) else [document])


def to_csv(documents: Sequence[dict[str, Any]]) -> str:
    """Return one line for each document, nested keys joined by dots; lists and mappings as JSON."""
    rows = [{as_cell(key): _cell(value) for key, value in flat(document).items()} for document in documents]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue() if names else ""


def line(document: dict[str, Any]) -> None:
    """Print a document as one line of JSON and flush, so that a stream of them can be followed."""
    sys.stdout.write(escaped(json.dumps(document, ensure_ascii=False, allow_nan=False)) + "\n")
    sys.stdout.flush()


class DocumentStream:
    """Prints documents one by one as they come: CSV lines with the first one's columns, or YAML documents."""

    def __init__(self, output: OutputFormat) -> None:
        self._output = output
        self._names: list[str] = []

    def __call__(self, document: dict[str, Any]) -> None:
        """Print a document."""
        if self._output is OutputFormat.YAML:
            sys.stdout.write(f"---\n{render(document, self._output)}")
        else:
            row = {as_cell(key): _cell(value) for key, value in flat(document).items()}
            first = not self._names
            self._names = self._names or list(row)
            writer = csv.DictWriter(
                sys.stdout, self._names, restval="", lineterminator="\n", extrasaction="ignore"
            )
            if first:
                writer.writeheader()
            writer.writerow(row)
        sys.stdout.flush()


def show(text: str) -> None:
    """Print a line to stdout."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print a message for the user to stderr."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def console(*, stderr: bool = False) -> Console:
    """Return a rich console: plain and uncut unless on a terminal, without colour under NO_COLOR."""
    stream = sys.stderr if stderr else sys.stdout
    watched = stream.isatty()
    return _console_class()(
        file=stream,
        width=None if watched else _PLAIN_WIDTH,
        highlight=False,
        soft_wrap=not watched,
        markup=False,
        emoji=False,
    )


@cache
def _console_class() -> type[Console]:
    """Return a console that shows values literally: no markup, no control characters."""
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or is_printable(segment.text):
                    yield segment
                else:
                    yield Segment(printable(segment.text), segment.style)

    return PlainConsole


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict | list):
        return escaped(json.dumps(value, ensure_ascii=False))
    return as_cell(value) if isinstance(value, str) else value

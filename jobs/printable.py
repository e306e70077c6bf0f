"""Makes text safe to show: no cursor movement, no colours, no change of reading direction.

What a job prints, raises or is named comes from elsewhere, and so does the content of a sweep file.
"""

from __future__ import annotations

import logging
import re

# C0 except tab and line feed, DEL, C1; line separators that terminals do not know; lone surrogates; marks,
# overrides and isolates of the reading direction.
_UNSEEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_PATTERN = re.compile(f"[{_UNSEEN}]")
_PICTURES = 0x2400
_DELETE, _DELETE_PICTURE = 0x7F, "\N{SYMBOL FOR DELETE}"


def printable(text: str) -> str:
    """Replace each control character with a visible symbol, such as ␛."""
    return _PATTERN.sub(_picture, text)


def escaped(text: str) -> str:
    """Return JSON text with such characters, which occur only inside strings, escaped as `\\u` sequences."""
    return _PATTERN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_printable(text: str) -> bool:
    """Whether a text is free of control characters."""
    return _PATTERN.search(text) is None


class PrintableFormatter(logging.Formatter):
    """Formats log lines, tracebacks included, so that they are safe to show."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted line."""
        return printable(super().format(record))


def log_to_stderr(form: str, level: int = logging.INFO) -> None:
    """Send this process's log to stderr in this format."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    return _DELETE_PICTURE if code == _DELETE else "\N{REPLACEMENT CHARACTER}"


# Spreadsheets treat a cell that begins with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def as_cell(text: str) -> str:
    """Quote a text that a spreadsheet would take for a formula; numbers stay numbers."""
    shown = printable(text)
    if not text.lstrip(" ").startswith(_FORMULA) or _is_number(text):
        return shown
    return f"'{shown}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

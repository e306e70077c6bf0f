"""Text that may be shown: nothing in it moves a cursor, colours a terminal or turns the direction of reading.

What a job prints, raises or is called comes from elsewhere, and so does what a sweep file holds.
"""

from __future__ import annotations

import logging
import re

# C0 but for tab and line feed, DEL, C1; separators of lines that terminals do not know; halves of surrogate
# pairs; marks, overrides and isolates of the direction of reading.
_UNSEEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_PATTERN = re.compile(f"[{_UNSEEN}]")
_PICTURES = 0x2400
_DELETE, _DELETE_PICTURE = 0x7F, "\N{SYMBOL FOR DELETE}"


def printable(text: str) -> str:
    """Return the text with each character that steers a terminal replaced by one that shows it, such as ␛."""
    return _PATTERN.sub(_picture, text)


def escaped(text: str) -> str:
    """Return JSON text with such characters, which stand within its strings alone, as `\\u` escapes."""
    return _PATTERN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_printable(text: str) -> bool:
    """Whether nothing in a text steers a terminal."""
    return _PATTERN.search(text) is None


class PrintableFormatter(logging.Formatter):
    """Formats log lines, tracebacks included, so that they may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return printable(super().format(record))


def log_to_stderr(form: str, level: int = logging.INFO) -> None:
    """Send this process's log to stderr, in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(_PICTURES + code)
    return _DELETE_PICTURE if code == _DELETE else "\N{REPLACEMENT CHARACTER}"

"""Foreign text is shown without controlling the terminal."""

from __future__ import annotations

import json
import logging

import pytest

from kerasweep.jobs.printable import PrintableFormatter, escaped, is_printable, printable

HOSTILE = "\x1b]0;PWNED\x07\x1b[31mred\x1b[2J\x9b31m\x7f\u202egnp.exe\u2066\ud800\u2028\r\b"


def test_control_characters_are_replaced_by_visible_ones() -> None:
    shown = printable(HOSTILE)
    assert is_printable(shown)
    assert not is_printable(HOSTILE)
    assert shown.startswith("\u241b]0;PWNED\u2407\u241b[31mred")
    assert len(shown) == len(HOSTILE)
    assert shown.encode("utf-8")


@pytest.mark.parametrize(
    "text", ["", "a\tb\nc", "\u00fc \u5b57 \U0001f469\u200d\U0001f52c \u05d0\u05d1", "[red]=1"]
)
def test_other_text_stays(text: str) -> None:
    assert printable(text) == text


def test_json_keeps_its_meaning() -> None:
    text = escaped(json.dumps({"note": HOSTILE}, ensure_ascii=False))
    assert is_printable(text)
    assert json.loads(text) == {"note": HOSTILE}


def test_log_lines_and_their_tracebacks() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as exc:
        record = logging.LogRecord("x", 20, "", 0, "%s", (HOSTILE,), (type(exc), exc, exc.__traceback__))
    assert is_printable(PrintableFormatter("%(message)s").format(record))

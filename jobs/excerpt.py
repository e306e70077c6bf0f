"""Texts that a job made, cut to a size that the records and the logs can bear."""

from __future__ import annotations

#: Of a failure's traceback, of what stands in a journal or a log line, and of a failure's one-line message.
TRACEBACK_CHARS, RECORD_CHARS, MESSAGE_CHARS = 32_000, 400_000, 4_000


def excerpt(text: str, most: int) -> str:
    """Return a text's beginning and end, about `most` characters in all, and what lies between counted.

    Args:
        text: of any length; the time taken does not depend on it.
        most: how many characters to keep, beside the word about what was cut.
    """
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail]} … [{len(text) - most} characters left out] … {text[-tail:]}"


def words_of(exc: BaseException, most: int = TRACEBACK_CHARS) -> str:
    """Return what an exception says, cut to `most` characters, or that it cannot say it."""
    try:
        return excerpt(str(exc), most)
    except Exception as broken:  # noqa: BLE001 - a job's own __str__ may do anything
        return f"(its message could not be read: {type(broken).__name__})"

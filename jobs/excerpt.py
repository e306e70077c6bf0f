"""Shortens text produced by a job to a size that the records and the logs can hold."""

from __future__ import annotations

#: Limits for a failure's traceback, for a journal or log line, and for a failure's one-line message.
TRACEBACK_CHARS, RECORD_CHARS, MESSAGE_CHARS = 32_000, 400_000, 4_000


def excerpt(text: str, most: int) -> str:
    """Cut a long text in the middle to about `most` characters, and say how many were left out.

    Args:
        text: of any length; the time taken does not depend on it.
        most: how many characters to keep, not counting the note about the cut.
    """
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail]} … [{len(text) - most} characters left out] … {text[-tail:]}"


def words_of(exc: BaseException, most: int = TRACEBACK_CHARS) -> str:
    """Return an exception's message, cut to `most` characters, or a placeholder if it cannot be formatted."""
    try:
        return excerpt(str(exc), most)
    except Exception as broken:  # noqa: BLE001 - a job's own __str__ may do anything
        return f"(its message could not be read: {type(broken).__name__})"

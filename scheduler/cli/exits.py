"""Turns errors into messages and exit codes; nothing else prints them.

0 done · 1 the sweep or the command failed · 2 the input was wrong · 3 something needed is out of reach.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from kerasweep.jobs.errors import InputError, KerasweepError, OutOfReach, RunInterrupted
from kerasweep.jobs.printable import printable

FAILED, WRONG_INPUT, OUT_OF_REACH = 1, 2, 3
_MOST_LINES = 3


def exit_code(exc: BaseException) -> int:
    """Return the exit code for an error."""
    if isinstance(exc, InputError):
        return WRONG_INPUT
    return OUT_OF_REACH if isinstance(exc, OutOfReach) else FAILED


def tell(exc: Exception, *, debug: bool) -> int:
    """Print an error to stderr, in at most three lines; return its exit code.

    Args:
        exc: the exception.
        debug: print the traceback too.
    """
    if debug:
        sys.stderr.write(printable("".join(traceback.format_exception(exc))))
    message = str(exc) if isinstance(exc, KerasweepError) else _unexpected(exc, saved=not debug)
    write(message, head="" if isinstance(exc, RunInterrupted) else "error: ")
    return exit_code(exc)


def write(message: str, head: str = "error: ") -> None:
    """Write `error: …` to stderr, in at most three lines and without control characters."""
    lines = [printable(line).strip() for line in message.splitlines() if line.strip()]
    first, rest = lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])
    sys.stderr.write(head + "\n".join([*first, rest] if rest else first) + "\n")
    sys.stderr.flush()


def _unexpected(exc: Exception, *, saved: bool) -> str:
    what = (str(exc).strip().splitlines() or [""])[0][:200]
    text = f"unexpected {type(exc).__name__}: {what}\nThis is a bug in kerasweep."
    return f"{text}\nThe traceback is in {_save(exc)} (kerasweep --debug … shows it)" if saved else text


def _save(exc: Exception) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", prefix="kerasweep-", suffix=".traceback", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(exc, file=file)
    return Path(file.name)

"""Prints one JSON line on stdout for the scheduler's side, which does not load TensorFlow itself."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from kerasweep.jobs.errors import InputError, KerasweepError

EXIT_DONE, EXIT_FAILED, EXIT_INPUT = 0, 1, 2


def answer(work: Callable[[], Mapping[str, Any]]) -> int:
    """Run `work` and print its result, or `{"error": message}`, as one JSON line.

    What the job or a library prints meanwhile goes to stderr, like the log.

    Returns:
        The exit code: 0, or 2 if the input was wrong, or 1.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    with _stdout_for_answers() as out:
        try:
            reply, code = dict(work()), EXIT_DONE
        except InputError as exc:
            reply, code = {"error": str(exc)}, EXIT_INPUT
        except KerasweepError as exc:
            reply, code = {"error": str(exc)}, EXIT_FAILED
        except Exception as exc:  # noqa: BLE001 - the job's own code may raise anything
            traceback.print_exc()
            reply, code = {"error": f"{type(exc).__name__}: {first_line(exc)}"}, EXIT_FAILED
        out.write(json.dumps(reply) + "\n")
    return code


def first_line(exc: BaseException) -> str:
    """Return the first non-empty line of an exception's message."""
    return next((line.strip() for line in str(exc).splitlines() if line.strip()), type(exc).__name__)


@contextmanager
def _stdout_for_answers() -> Iterator[TextIO]:
    # At the level of file descriptors too, since converters print from C++.
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out, redirect_stdout(sys.stderr):
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)

"""Runs programs that load TensorFlow as child processes: nothing on this side ever loads it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from kerasweep.jobs.errors import InputError, KerasweepError
from kerasweep.scheduler.local.leash import leashed

_WRONG_INPUT = 2
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def has_keras() -> bool:
    """Whether TensorFlow and Keras are installed."""
    return all(find_spec(name) is not None for name in ("tensorflow", "keras"))


def expect_keras(what: str = "training") -> None:
    """Check that TensorFlow and Keras are installed.

    Raises:
        InputError: one of them is not.
    """
    if not has_keras():
        raise InputError(
            f"{what} needs TensorFlow and Keras, and this environment lacks them\n"
            "Install them: pip install 'kerasweep[worker]' (or 'kerasweep[cuda]' for GPUs)"
        )


def ask(module: str, words: Sequence[str], *, limit_s: float = 600.0) -> dict[str, Any]:
    """Run one of our modules as a child process and return the line of JSON that it prints.

    Args:
        module: the module, run by `python -m`.
        words: its arguments.
        limit_s: the timeout, in seconds.

    Raises:
        InputError: the child reports that its input was wrong.
        KerasweepError: it failed, or did not end in time.
    """
    expect_keras("this")
    command = leashed([sys.executable, "-P", "-m", module, *words])
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            env={**_QUIET, **os.environ},
        )
    except subprocess.TimeoutExpired as exc:
        raise KerasweepError(f"{module} must end within {limit_s:g} s and did not; run it by itself") from exc
    reply = _last_document(done.stdout)
    if done.returncode == 0 and reply is not None:
        return reply
    message = str((reply or {}).get("error") or _last_line(done.stderr) or "it printed nothing")
    if reply is None:
        message = f"{module} ended with code {done.returncode} and no result: {message}"
    raise InputError(message) if done.returncode == _WRONG_INPUT else KerasweepError(message)


def _last_document(text: str) -> dict[str, Any] | None:
    """Return the last line that is a JSON object; libraries may have printed other text before it."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

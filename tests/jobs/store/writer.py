"""Writes artifacts until it is killed, or until it dies at a given stage.

python writer.py FOLDER KEY [STAGE]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from kerasweep.jobs.store import whole_file
from kerasweep.jobs.store.artifacts import Artifacts

SIZE = 300_000


def version(number: int) -> bytes:
    """Return content that reveals whether it is complete, and which version it is."""
    return bytes([number % 256]) * (SIZE + number)


def _die(*_: object) -> NoReturn:
    os._exit(9)  # like SIGKILL: no cleanup


def _after(call: Callable[..., Any]) -> Callable[..., Any]:
    def call_and_die(*arguments: Any) -> None:
        call(*arguments)
        _die()

    return call_and_die


def _prepare_to_die(stage: str) -> None:
    if stage == "before the sync":
        whole_file.os.fsync = _die  # type: ignore[assignment]
    elif stage == "after the sync":
        whole_file.os.fsync = _after(os.fsync)  # type: ignore[assignment]
    elif stage == "before the rename":
        whole_file.os.replace = _die  # type: ignore[assignment]
    elif stage == "after the rename":
        whole_file.os.replace = _after(os.replace)  # type: ignore[assignment]


if __name__ == "__main__":
    artifacts, key, stage = Artifacts(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["never"])[0]
    if stage == "in mid-write":
        whole_file.write_whole(
            whole_file.Path(artifacts._path(key)), (_die() if part else b"x" * 8192 for part in range(2))
        )
    _prepare_to_die(stage)
    number = 0
    while True:
        number += 1
        print(number, *artifacts.put(key, version(number)), flush=True)

"""Space for a model file before it becomes an artifact: in the temporary folder, or beside the artifacts."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.workers.trainer.symptoms import is_machine

T = TypeVar("T")

_REMEDY = "Free some space there, or point TMPDIR to a larger disk and restart the worker."
_REFUSED = re.compile(
    r"\b40[13]\b|[Ff]orbidden|[Aa]ccess ?[Dd]enied|[Pp]ermission|[Rr]ead-only|[Uu]nauthorized"
)


def with_room(artifacts: Artifacts, write: Callable[[Path], T]) -> T:
    """Call `write` with an empty folder, in another location if the first has no space; return its value.

    Args:
        artifacts: a folder beside them is the second choice, if they are on this machine.
        write: may be called more than once.

    Raises:
        OutOfReach: there is no space anywhere, or the artifacts do not accept what was written.
    """
    last: Exception | None = None
    for folder in _folders(artifacts):
        try:
            with folder as name:
                return write(Path(name))
        except OutOfReach:
            raise
        except Exception as exc:
            if not is_machine(exc):
                raise
            last = exc
    raise OutOfReach("Disk space for a model file", tempfile.gettempdir(), _REMEDY, str(last)) from last


def is_refusal(exc: OutOfReach) -> bool:
    """Tell whether a store actively refuses, rather than failing to respond."""
    return isinstance(exc.__cause__, PermissionError) or _REFUSED.search(str(exc)) is not None


def _folders(artifacts: Artifacts) -> Iterator[AbstractContextManager[str]]:
    yield tempfile.TemporaryDirectory(prefix="kerasweep-")
    beside = artifacts.beside()
    if beside is not None:
        yield beside

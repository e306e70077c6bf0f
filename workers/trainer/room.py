"""Room for a model file before it is an artifact: in the temporary folder, or beside the artifacts."""

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

_REMEDY = "Make room there, or point TMPDIR to a larger place and start the worker again."
_REFUSED = re.compile(
    r"\b40[13]\b|[Ff]orbidden|[Aa]ccess ?[Dd]enied|[Pp]ermission|[Rr]ead-only|[Uu]nauthorized"
)


def with_room(artifacts: Artifacts, write: Callable[[Path], T]) -> T:
    """Call `write` with an empty folder, in another place where the first has no room; return its value.

    Args:
        artifacts: a folder beside them is the second choice, where they are on this machine.
        write: may be called more than once.

    Raises:
        OutOfReach: there is no room anywhere, or the artifacts do not take what was written.
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
    raise OutOfReach("Room for a model file", tempfile.gettempdir(), _REMEDY, str(last)) from last


def is_refusal(exc: OutOfReach) -> bool:
    """Tell whether a place says no and will go on to, and does not only fail to answer."""
    return isinstance(exc.__cause__, PermissionError) or _REFUSED.search(str(exc)) is not None


def _folders(artifacts: Artifacts) -> Iterator[AbstractContextManager[str]]:
    yield tempfile.TemporaryDirectory(prefix="kerasweep-")
    beside = artifacts.beside()
    if beside is not None:
        yield beside

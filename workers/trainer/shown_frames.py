"""Chooses the frames of a traceback that tell the user something: the job's own and those that it called."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from kerasweep.jobs.excerpt import words_of

_OWN_FOLDER = Path(__file__).resolve().parents[1]
_HEAD = "Traceback (most recent call last):\n"
#: How TensorFlow names an operation in a message, and the frames in which it was created.
_NODE = re.compile(r"\{\{node ([^{}\s]+)\}\}|Detected at node '?([^\s']+)")
_CREATED = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+)(?:, in .*)?\n\n?', re.MULTILINE)


def node_of(exc: BaseException) -> str:
    """Return the operation of a graph that an error names, such as `compile_loss/mse/sub`; empty if none."""
    found = _NODE.search(words_of(exc)) if isinstance(exc, tf.errors.OpError) else None
    if found is None:
        return ""
    parts = (found[1] or found[2]).split("/")
    return "/".join(part for before, part in zip(["", *parts], parts, strict=False) if part != before)


def place_of(exc: BaseException, folder: Path) -> str:
    """Return the job's file and line where an error arose, as `train.py:12`; empty if it has none.

    An operation of a graph arose where the job created it.

    Args:
        exc: raised by the training.
        folder: the folder of the job's files.
    """
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(exc.__traceback__)]
    if isinstance(exc, tf.errors.OpError):
        created = [(found["file"], int(found["line"])) for found in _CREATED.finditer(words_of(exc))]
        places = [*created, *places] if not _any_of(folder, places) else places
    for file, line in reversed(places):
        if Path(file).is_relative_to(folder):
            return f"{Path(file).relative_to(folder)}:{line}"
    return ""


def traceback_of(exc: BaseException, folder: Path) -> str:
    """Format an error, from the job's first frame on.

    An error without a frame of the job keeps the trainer's, unless an operation of a graph failed: where it
    ran says nothing, and where it was created stands in its message.

    Args:
        exc: raised by the training.
        folder: the folder of the job's files.
    """
    told = traceback.TracebackException(type(exc), exc, exc.__traceback__)
    frames = list(told.stack)
    begin = _first_of(folder, [frame.filename for frame in frames])
    if begin is None:
        begin = len(frames) if isinstance(exc, tf.errors.OpError) else _after_own(frames)
    told.stack = traceback.StackSummary.from_list(frames[begin:])
    text = "".join(told.format())
    if isinstance(exc, tf.errors.OpError):
        text = text.replace(words := words_of(exc), _without_creators(words, folder))
    return text if frames[begin:] else text.replace(_HEAD, "", 1)


def _without_creators(words: str, folder: Path) -> str:
    """Cut the frames in which an operation was created down to the job's and what those called."""
    found = list(_CREATED.finditer(words))
    begin = _first_of(folder, [one["file"] for one in found])
    if begin is None:
        own = [number for number, one in enumerate(found) if Path(one["file"]).is_relative_to(_OWN_FOLDER)]
        begin = own[-1] + 1 if own else 0
    for one in reversed(found[:begin]):
        words = words[: one.start()] + words[one.end() :]
    return words


def _after_own(frames: Sequence[traceback.FrameSummary]) -> int:
    """Return how many frames at the top are the trainer's own; 0 if all are."""
    below = (n for n, one in enumerate(frames) if not Path(one.filename).is_relative_to(_OWN_FOLDER))
    return next(below, 0)


def _first_of(folder: Path, files: Sequence[str]) -> int | None:
    return next((n for n, file in enumerate(files) if Path(file).is_relative_to(folder)), None)


def _any_of(folder: Path, places: Sequence[tuple[str, int | None]]) -> bool:
    return _first_of(folder, [file for file, _ in places]) is not None

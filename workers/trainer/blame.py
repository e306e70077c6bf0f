"""Converts exceptions of a job to a training failure: its class, one line for the user, and the job's
traceback.
"""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import tensorflow as tf

from kerasweep.jobs.errors import JobError, KerasweepError, OutOfReach
from kerasweep.jobs.excerpt import TRACEBACK_CHARS, excerpt, words_of
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.shown_frames import node_of, place_of, traceback_of
from kerasweep.workers.trainer.symptoms import is_machine, is_of_files

_MESSAGE_CHARS = 800
_NOT_UNDER_XLA = (
    "XLA has no deterministic form of an operation of this model (max-pooling's gradient is one), and "
    "results must repeat; set training.xla to auto or false, and jit_compile=False in model.compile"
)
_WHERE, _CAUSE, _ARGUMENTS = (
    "Exception encountered when calling ",
    "Error encountered:",
    ("Arguments received by ", "Call arguments received by ", "Example:"),
)
#: TensorFlow's lines about where an operation was created, which do not say what is wrong with it.
_NOISE = re.compile(
    r"Detected at node|File \"|<stack traces|Graph execution error|\[\[\{\{node|Original stack trace|"
    r"Traceback \(most recent|\d+ root error|\d+ successful operations|\d+ derived errors|Node: "
)
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
#: What TensorFlow adds to the message of an operation that ran eagerly.
_EAGER = re.compile(r"\{\{function_node [^{}]*\}\} ?|(?<=\]) name: *$")


def translate(exc: BaseException, folder: Path) -> JobError:
    """Return the failure for an exception.

    Args:
        exc: raised by the training.
        folder: the folder of the job's files, to name the line of the job that raised.
    """
    if isinstance(exc, JobError):
        return exc
    text = _shown(exc, folder)
    if isinstance(exc, OutOfReach):
        return JobError(FailureClass.STORE, str(exc).splitlines()[0], text)
    if isinstance(exc, KerasweepError):
        return JobError(FailureClass.USER, str(exc), text)
    said = f"{type(exc).__name__}: {_first_line(exc)}{_place(exc, folder)}"
    if is_memory(exc):
        return JobError(FailureClass.MEMORY, f"out of memory: {_first_line(exc)}", text)
    if is_machine(exc):  # TensorFlow also reports a full disk as an exhausted resource
        return JobError(FailureClass.MACHINE, said, text)
    if "deterministic XLA implementation" in words_of(exc):
        return JobError(FailureClass.USER, _NOT_UNDER_XLA, text)
    return JobError(FailureClass.USER, said, text)


def is_memory(exc: BaseException) -> bool:
    """Tell whether an exception means that memory ran out."""
    if isinstance(exc, MemoryError):
        return True
    # XLA on a GPU reports a failed allocation as an internal error with these words; TensorFlow reports a
    # full disk and too many open files as exhausted resources.
    exhausted = isinstance(exc, tf.errors.ResourceExhaustedError) or (
        isinstance(exc, tf.errors.OpError) and "RESOURCE_EXHAUSTED" in words_of(exc)
    )
    return exhausted and not is_of_files(exc)


def _first_line(exc: BaseException) -> str:
    """Return in one line what went wrong and what helps.

    Keras first names the layer, then its arguments, and gives the remedy last; TensorFlow wraps its message
    in the places where each operation was created. Whatever only repeats the traceback is dropped.
    """
    plain = _STYLE.sub("", _EAGER.sub("", words_of(exc)))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    told = [
        line
        for line in takewhile(lambda line: not line.startswith(_ARGUMENTS), lines)
        if not _NOISE.match(line)
    ]
    text = " ".join(told or lines[:1] or ["no message"])
    if text.startswith(_WHERE) and _CAUSE in text:
        text = f"{told[0]} {text.rpartition(_CAUSE)[2].strip()}"
    return text if len(text) <= _MESSAGE_CHARS else f"{text[: _MESSAGE_CHARS - 1].rsplit(' ', 1)[0]}…"


def _shown(exc: BaseException, folder: Path) -> str:
    try:
        text = traceback_of(exc, folder)
    except Exception:  # noqa: BLE001 - an exception of the job's own may not even be printable
        text = f"{type(exc).__name__}: {words_of(exc)}"
    return excerpt(text, TRACEBACK_CHARS)


def _place(exc: BaseException, folder: Path) -> str:
    """Return the operation of a graph that failed, and the job's line, as far as they are known."""
    if isinstance(exc, SyntaxError) and exc.filename and Path(exc.filename).is_relative_to(folder):
        return f" ({Path(exc.filename).relative_to(folder)}:{exc.lineno})"
    node, line = node_of(exc), place_of(exc, folder)
    return (f" (at node {node})" if node else "") + (f" ({line})" if line else "")

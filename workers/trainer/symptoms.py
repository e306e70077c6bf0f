"""Recognises failures of the machine rather than of the job: a full disk, a lost connection, a sick GPU."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

import tensorflow as tf

from kerasweep.jobs.excerpt import words_of

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN}
_BROKEN = {errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE}
_CUT_OFF = {
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
    errno.EPIPE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
}
_ERRNOS = frozenset(_FULL | _BROKEN | _CUT_OFF)
_TYPES = (
    ConnectionError,
    TimeoutError,
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
)
#: Network clients report lost connections with their own types, which are not imported here.
_CLIENTS = frozenset({"requests", "urllib3", "botocore", "aiohttp", "httpx", "httpcore"})
_LOST = re.compile(r"Timeout|Connect|Protocol|IncompleteRead|Chunked|Disconnected|ReadError|NewConnection")

#: TensorFlow and HDF5 wrap messages of the system and of the driver in their own types.
_FILES = re.compile("No space left on device|[Qq]uota exceeded|Too many open files")
_WORDS = re.compile(
    f"{_FILES.pattern}|Input/output error|Read-only file system"
    "|Stale file handle|Connection reset|Connection timed out|Broken pipe|Socket closed"
    "|Transport endpoint is not connected|Cannot allocate memory|can't start new thread"
    "|CUDA_ERROR_|CUBLAS_STATUS_|CUDNN_STATUS_|CUSOLVER_STATUS_|CUFFT_|CURAND_STATUS_|NCCL"
    "|[Cc]uDNN failed|cuDNN launch failure|[Bb]las (?:x?GEMM|SGEMM|xGEMV|GEMM)\\w* launch failed"
    "|\\bECC\\b|illegal memory access|unspecified launch failure|misaligned address"
    "|GPU is lost|fallen off the bus|device kernel image is invalid|no kernel image is available"
    "|[Ff]ailed to (?:allocate|synchronize|create (?:a )?(?:\\w+ )?(?:stream|handle|event))"
    "|could not (?:allocate|synchronize) .*(?:stream|device|GPU)"
)
#: An error in a handler says nothing about what was handled.
_MISTAKES = (NameError, AttributeError, TypeError, SyntaxError, ImportError)
_LONGEST_CHAIN = 32


def is_machine(exc: BaseException) -> bool:
    """Tell whether an exception, or one of its causes, means that the machine is at fault.

    A missing or unreadable file is the job's own matter.
    """
    return any(map(_says_machine, _chain(exc)))


def is_of_files(exc: BaseException) -> bool:
    """Tell whether disk space or file descriptors ran out, rather than memory."""
    return _FILES.search(words_of(exc)) is not None


def _says_machine(exc: BaseException) -> bool:
    if isinstance(exc, _TYPES):
        return True
    if isinstance(exc, socket.gaierror):
        return exc.errno == socket.EAI_AGAIN
    if isinstance(exc, OSError) and exc.errno in _ERRNOS:
        return True
    kind = type(exc)
    if kind.__module__.partition(".")[0] in _CLIENTS and _LOST.search(kind.__name__):
        return True
    # Not in a ValueError or the like: there such words are the job's own.
    passed_on = isinstance(exc, (OSError, tf.errors.OpError)) or kind is RuntimeError or _is_xla(kind)
    return passed_on and _WORDS.search(words_of(exc)) is not None


def _is_xla(kind: type) -> bool:
    return kind.__name__ in ("XlaRuntimeError", "JaxRuntimeError")


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its members if it is a group, and its causes."""
    waiting: list[BaseException] = [exc]
    seen: set[int] = set()
    while waiting and len(seen) < _LONGEST_CHAIN:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        reason = getattr(one, "reason", None)  # of urllib's URLError
        handled = None if one.__suppress_context__ or isinstance(one, _MISTAKES) else one.__context__
        waiting += [led for led in (reason, one.__cause__, handled) if isinstance(led, BaseException)]

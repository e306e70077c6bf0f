"""What an exception blames: the job, its memory, or the machine."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow")

from kerasweep.jobs.trial import FailureClass  # noqa: E402
from kerasweep.workers.trainer.blame import translate  # noqa: E402

pytestmark = pytest.mark.tf


def blamed(exc: BaseException) -> FailureClass:
    return translate(exc, Path("/nowhere")).cls


def caused(exc: BaseException, cause: BaseException) -> BaseException:
    exc.__cause__ = cause
    return exc


def during(exc: BaseException, handled: BaseException) -> BaseException:
    exc.__context__ = handled
    return exc


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "exc",
    [
        FULL,
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("Can't write data (file write failed, error message = 'No space left on device')"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        TimeoutError("timed out"),
        tf.errors.UnavailableError(None, None, "Socket closed"),
        tf.errors.InternalError(None, None, "CUBLAS_STATUS_NOT_INITIALIZED"),
        tf.errors.UnknownError(None, None, "cuDNN failed to initialize"),
        tf.errors.InternalError(None, None, "Failed to allocate 4096 bytes"),
        tf.errors.InternalError(None, None, "NCCL: unhandled system error"),
        tf.errors.ResourceExhaustedError(None, None, "model.h5; No space left on device"),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("CUDA runtime error: uncorrectable ECC error encountered"),
        RuntimeError("can't start new thread"),
        caused(ValueError("the cache could not be written"), FULL),
        during(ValueError("the cache could not be written"), FULL),
        ExceptionGroup("two workers", [ValueError("no"), FULL]),
    ],
    ids=lambda exc: f"{type(exc).__name__}-{str(exc)[:30]}",
)
def test_the_machine(exc: BaseException) -> None:
    assert blamed(exc) is FailureClass.MACHINE


@pytest.mark.parametrize(
    "exc",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "data.csv"),
        PermissionError(errno.EACCES, "Permission denied", "data.csv"),
        ValueError("CUDA_ERROR_ is no word for a label"),
        tf.errors.InvalidArgumentError(None, None, "Incompatible shapes: [3] vs. [4]"),
        tf.errors.InternalError(None, None, "a defect of somebody's"),
        RuntimeError("the labels must be whole numbers"),
        during(NameError("name 'lgo' is not defined"), FULL),
        SystemExit(1),
    ],
    ids=lambda exc: f"{type(exc).__name__}-{str(exc)[:30]}",
)
def test_the_job(exc: BaseException) -> None:
    assert blamed(exc) is FailureClass.USER


@pytest.mark.parametrize(
    "exc", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")]
)
def test_memory(exc: BaseException) -> None:
    assert blamed(exc) is FailureClass.MEMORY


class Mute(Exception):
    """An exception without a readable message."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_read_is_the_jobs() -> None:
    failure = translate(Mute(), Path("/nowhere"))
    assert failure.cls is FailureClass.USER
    assert "Mute" in failure.message


def test_a_message_of_20_mb_is_cut() -> None:
    failure = translate(caused(ValueError("z" * (20 << 20)), ValueError("y\n" * (1 << 20))), Path("/nowhere"))
    assert len(failure.message) < 2_000
    assert len(failure.traceback) < 40_000
    assert "characters left out" in failure.traceback

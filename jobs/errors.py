"""What can go wrong, and who has to act on it.

    KerasweepError
    ├── InputError            the user has to correct it; the CLI exits with 2
    │   ├── SpecError         a sweep file that is not valid
    │   ├── ProgramError      a job file that is not valid
    │   ├── NotFound          no such sweep or trial, or more than one
    │   └── DestinationError  a folder that must not be overwritten
    ├── OutOfReach            broker, store or artifacts do not respond: retried; the CLI exits with 3
    ├── GaveUp                Celery stopped by itself: a supervisor restarts the process, without limit
    ├── NoResult              there is no result or model yet, or none was kept; the CLI exits with 1
    ├── Halted                the sweep itself failed: final; the CLI exits with 1
    ├── RunInterrupted        the user stopped a run early; the CLI says so and exits with 1
    ├── StaleAttempt          the attempt no longer holds its trial: final for this attempt
    ├── IllegalMove           a state transition that is not allowed: final
    ├── Damaged               bytes that do not match the recorded digest: final for these bytes
    ├── PipeDefect            an invalid message between worker and trainer: final for its attempt
    └── JobError              a training failure with its class; the scheduler decides on a retry

Every message gives the rule, the value that broke it, and the remedy.
"""

from __future__ import annotations

import re

from kerasweep.jobs.trial import FailureClass

# Redis, PostgreSQL and object stores also take a password in the query.
_SECRETS = re.compile(r"(?i)\b([a-z_]*(?:password|passwd|secret|token|key))=[^&\s]*")

_SCHEME = re.compile(r"(?s)([A-Za-z][A-Za-z0-9+.\-]*(:/+))(.*)")
# A non-numeric port may be a password whose host was forgotten.
_WRONG_PORT = re.compile(r"^((?:\[[^\]]*+\]?+|[^:/?#\[]*+)):(?!\d*(?:[/?#]|$))[^/]*")


class KerasweepError(Exception):
    """The base class of every error that kerasweep raises on purpose."""


class InputError(KerasweepError):
    """The user has to correct something."""


class SpecError(InputError):
    """The sweep file is not valid."""


class ProgramError(InputError):
    """The job file is not valid."""


class NotFound(InputError):
    """The sweep or trial does not exist, or the name is ambiguous."""


class DestinationError(InputError):
    """The destination holds something else."""


class OutOfReach(KerasweepError):
    """Something needed does not respond; retrying later may help.

    Args:
        what: what does not respond, such as "Redis".
        url: its address; the password is never shown.
        remedy: what to try.
    """

    def __init__(self, what: str, url: str, remedy: str, cause: str = "") -> None:
        self.what, self.url, self.remedy = what, without_password(url), remedy
        because = f" ({cause})" if cause else ""
        super().__init__(f"{what} is out of reach at {self.url}{because}\n{remedy}")


class GaveUp(KerasweepError):
    """Celery stopped without being told to; the process exits with `exit_code` so that it is restarted."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class NoResult(KerasweepError):
    """The sweep has no trial with a value yet, or the trial has no model."""


class Halted(KerasweepError):
    """The sweep failed."""


class RunInterrupted(KerasweepError):
    """The user stopped a run before its sweep had ended."""


class StaleAttempt(KerasweepError):
    """The attempt no longer holds its trial and may not write."""


class IllegalMove(KerasweepError):
    """A state transition that is not allowed."""


class Damaged(KerasweepError):
    """The bytes do not match the recorded digest."""


class PipeDefect(KerasweepError):
    """An invalid message between a worker and a trainer.

    Args:
        message: which message, and what is wrong with it.
        run: the run that it names; None if unknown.
    """

    def __init__(self, message: str, run: str | None) -> None:
        self.run = run
        super().__init__(message)


class JobError(KerasweepError):
    """A training failure.

    Args:
        cls: its class, which decides what happens next.
        message: one line for the user.
        traceback: the job's own traceback, for the trial's log.
    """

    def __init__(self, cls: FailureClass, message: str, traceback: str = "") -> None:
        self.cls, self.message, self.traceback = cls, message, traceback
        super().__init__(message)


def without_password(url: str) -> str:
    """Return the URL with its password replaced by `***`, even if it was not quoted correctly."""
    found = _SCHEME.fullmatch(url)
    scheme, rest = (found[1], found[3]) if found else ("", url)
    user, at, host = rest.rpartition("@")
    if at and (":" in user or "@" in user):
        rest = f"{re.split('[:@]', user)[0]}:***@{host}"
    elif not at and scheme:
        rest = _WRONG_PORT.sub(r"\1:***", rest)
    return _SECRETS.sub(r"\1=***", f"{scheme}{rest}")

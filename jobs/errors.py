"""What can go wrong, and who has to act on it.

    KerasweepError
    ├── InputError            the user has to correct it; the CLI exits with 2
    │   ├── SpecError         a sweep file that is not valid
    │   ├── ProgramError      a job file that is not valid
    │   ├── NotFound          no such sweep or trial, or more than one
    │   └── DestinationError  a folder that must not be written to
    ├── OutOfReach            broker, store or artifacts do not answer: retried; the CLI exits with 3
    ├── GaveUp                Celery ended by itself: a supervisor starts the process again, however often
    ├── Halted                the sweep itself failed: final; the CLI exits with 1
    ├── StaleAttempt          a newer attempt, or none, may write: final for this attempt
    ├── IllegalMove           a move between states that the table of moves forbids: final
    ├── Damaged               bytes that do not have the digest on record: final for these bytes
    ├── PipeDefect            a message between worker and trainer that does not fit: final for its attempt
    └── JobError              a training failure with its class; the scheduler decides on a retry

Every message gives the rule, the value that broke it, and the remedy.
"""

from __future__ import annotations

import re

from kerasweep.jobs.trial import FailureClass

# Redis, PostgreSQL and object stores all take a password in the query too.
_SECRETS = re.compile(r"(?i)\b([a-z_]*(?:password|passwd|secret|token|key))=[^&\s]*")

_SCHEME = re.compile(r"(?s)([A-Za-z][A-Za-z0-9+.\-]*(:/+))(.*)")
# What stands in a port's place and is no number may be a password whose host was forgotten.
_WRONG_PORT = re.compile(r"^((?:\[[^\]]*+\]?+|[^:/?#\[]*+)):(?!\d*(?:[/?#]|$))[^/]*")


class KerasweepError(Exception):
    """The root: every error that kerasweep raises on purpose."""


class InputError(KerasweepError):
    """The user has to correct it."""


class SpecError(InputError):
    """A sweep file that is not valid."""


class ProgramError(InputError):
    """A job file that is not valid."""


class NotFound(InputError):
    """A sweep or trial that is not there, or a name that fits more than one."""


class DestinationError(InputError):
    """A destination that holds something else."""


class OutOfReach(KerasweepError):
    """Something needed does not answer; trying again later may help.

    Args:
        what: what does not answer, such as "Redis".
        url: where it was looked for; its password is never shown.
        remedy: what to try.
    """

    def __init__(self, what: str, url: str, remedy: str, cause: str = "") -> None:
        self.what, self.url, self.remedy = what, without_password(url), remedy
        because = f" ({cause})" if cause else ""
        super().__init__(f"{what} is out of reach at {self.url}{because}\n{remedy}")


class GaveUp(KerasweepError):
    """Celery ended without being told to; the process exits with `exit_code` to be started again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Halted(KerasweepError):
    """The sweep failed."""


class StaleAttempt(KerasweepError):
    """The attempt is no longer the one that may write."""


class IllegalMove(KerasweepError):
    """A move that the table of moves does not hold."""


class Damaged(KerasweepError):
    """Bytes that are not those on record."""


class PipeDefect(KerasweepError):
    """A message between a worker and a trainer that does not fit.

    Args:
        message: which message, and what is wrong with it.
        run: the run that it names; None where that cannot be told.
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
    """Return the URL with its password replaced by `***`, also where it was not quoted correctly."""
    found = _SCHEME.fullmatch(url)
    scheme, rest = (found[1], found[3]) if found else ("", url)
    user, at, host = rest.rpartition("@")
    if at and (":" in user or "@" in user):
        rest = f"{re.split('[:@]', user)[0]}:***@{host}"
    elif not at and scheme:
        rest = _WRONG_PORT.sub(r"\1:***", rest)
    return _SECRETS.sub(r"\1=***", f"{scheme}{rest}")

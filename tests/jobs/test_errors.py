"""The tree of errors, and passwords kept out of messages."""

from __future__ import annotations

import pytest

from kerasweep.jobs import errors
from kerasweep.jobs.errors import InputError, JobError, KerasweepError, OutOfReach, without_password
from kerasweep.jobs.trial import FailureClass


def test_the_documented_tree_matches_the_classes() -> None:
    assert errors.__doc__
    drawn = {
        line.split()[1] if "──" in line else line.split()[0]
        for line in errors.__doc__.replace("│", " ").splitlines()
        if "──" in line or line.strip() == "KerasweepError"
    }
    real = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, KerasweepError)
    }
    assert drawn == real


def test_user_errors_are_input_errors() -> None:
    mendable = {errors.SpecError, errors.ProgramError, errors.NotFound, errors.DestinationError}
    assert set(InputError.__subclasses__()) == mendable


def test_out_of_reach_gives_what_where_why_and_the_remedy() -> None:
    error = OutOfReach("Redis", "redis://:s3cret@host:6379/0", "Start Redis.", "Connection refused")
    assert (
        str(error) == "Redis is out of reach at redis://:***@host:6379/0 (Connection refused)\nStart Redis."
    )
    assert (error.what, error.url, error.remedy) == ("Redis", "redis://:***@host:6379/0", "Start Redis.")
    assert "s3cret" not in repr(error)


def test_a_job_error_carries_its_class() -> None:
    error = JobError(FailureClass.USER, "ValueError: no", "Traceback …")
    assert (error.cls, error.message, error.traceback, str(error)) == (
        "user",
        "ValueError: no",
        "Traceback …",
        "ValueError: no",
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user@host/0", "redis://user@host/0"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        (
            "postgresql://user:pw@host:5432/db?sslmode=require",
            "postgresql://user:***@host:5432/db?sslmode=require",
        ),
        ("postgresql+psycopg://user:p%40w@host/db", "postgresql+psycopg://user:***@host/db"),
        ("postgresql://user:p@w@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:p/w#x?y@host/db", "postgresql://user:***@host/db"),
        ("redis://:12/34@host", "redis://:***@host"),
        (
            "redis+socket:///run/redis.sock?password=pw&virtual_host=0",
            "redis+socket:///run/redis.sock?password=***&virtual_host=0",
        ),
        ("s3://bucket/x?aws_secret_access_key=pw&a=b", "s3://bucket/x?aws_secret_access_key=***&a=b"),
        ("postgresql://[::1]:99999/db", "postgresql://[::1]:99999/db"),
        ("sqlite:////home/me/store.db", "sqlite:////home/me/store.db"),
        ("/home/me@work:x/artifacts", "/home/me@work:x/artifacts"),
        ("", ""),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown

"""The code of a recorded sweep: whether its job has changed since, and how to replace it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasweep.jobs.code.bundle import bundle
from kerasweep.jobs.errors import InputError, ProgramError
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.models import SweepRecord
from kerasweep.scheduler.deciding.origin import source_of
from kerasweep.scheduler.deciding.submission import pack_job


@dataclass(frozen=True)
class FreshCode:
    """A job as it is now, with its bundle in the artifacts.

    Args:
        bundle: where it is.
        entry: the job's file in it.
        source: where it came from.
    """

    bundle: ArtifactRef
    entry: str
    source: Mapping[str, Any]


def pack_again(artifacts: Artifacts, sweep: SweepRecord) -> FreshCode:
    """Check and bundle a sweep's job as it is now.

    Raises:
        InputError: it is not on this machine, is not valid, does not match the sweep, or has not changed.
        OutOfReach: the artifacts do not respond.
    """
    job = _job_of(sweep)
    if job is None:
        raise InputError(
            "code=True (--code) takes the job from where it was submitted, and "
            f"'{sweep.source.get('job')}' is not here\n"
            "Run it on that machine, or submit the sweep again"
        )
    packed = pack_job(sweep.spec, job)
    if packed.sha256 == sweep.bundle.sha256:
        raise InputError(
            f"code=True (--code) takes a job that has changed, and '{job}' is as it was submitted\n"
            "Leave it out to try again with the same code"
        )
    key = f"bundles/{packed.sha256}.zip"
    sha256, size = artifacts.put(key, packed.data)
    return FreshCode(ArtifactRef("bundle", key, sha256, size), packed.entry, source_of(job))


def changed_since(sweep: SweepRecord) -> str | None:
    """Return the path of a sweep's job if it, or a file bundled with it, has changed since submission."""
    job = _job_of(sweep)
    if job is None:
        return None
    try:
        same = bundle(job, sweep.spec.files).sha256 == sweep.bundle.sha256
    except (ProgramError, OSError):
        same = False
    return None if same else str(job)


def _job_of(sweep: SweepRecord) -> Path | None:
    named = sweep.source.get("job")
    job = Path(named) if isinstance(named, str) else None
    return job if job is not None and job.is_file() else None

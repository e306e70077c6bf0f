"""From a sweep file and a job file to a sweep on record, its first trials and their hints."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasweep.jobs.code.bundle import bundle
from kerasweep.jobs.code.program import check, read_program
from kerasweep.jobs.errors import OutOfReach, SpecError
from kerasweep.jobs.queue import hints
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.rules import Path as Place
from kerasweep.jobs.sweepfile.sheet import read_sheet
from kerasweep.jobs.sweepfile.spec import SweepSpec, load_spec
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.deciding.advance import advance, send_hints

log = logging.getLogger(__name__)

_GIT_S = 5.0


@dataclass(frozen=True)
class Submitted:
    """A sweep on record; `hinted` tells whether its trials' hints reached Redis already."""

    sweep: SweepRecord
    trials: int
    hinted: bool


def submit(
    path: Path,
    *,
    records: Records,
    artifacts: Artifacts,
    queue: HintQueue | None,
    engine: str = "auto",
    spec: SweepSpec | None = None,
) -> Submitted:
    """Submit a sweep.

    Args:
        path: the sweep file; the job's path in it is relative to this file's folder.
        records: where the sweep is written.
        artifacts: where the job's bundle is kept.
        queue: where the hints go; None where no Redis runs yet: the scheduler sends them later.
        engine: auto, fit or pack.
        spec: the sweep file's content, where it has been read, or made, already.

    Raises:
        InputError: the sweep file or the job cannot be meant; nothing was written.
        OutOfReach: Redis, the store or the artifacts do not answer; nothing was submitted.
    """
    spec = spec or load_spec(path)
    job = path.parent / spec.job
    check(spec, read_program(job), lambda: _lines_of(path))
    packed = bundle(job, spec.files)
    for note in packed.notes:
        log.warning("%s", note)
    if queue:
        queue.ping()
    sha256, size = artifacts.put(f"bundles/{packed.sha256}.zip", packed.data)
    sweep = SweepRecord(
        id=hints.new_sweep_id(),
        name=spec.name,
        state=SweepState.RUNNING,
        spec=spec,
        max_trials=spec.planned_trials(),
        entry=packed.entry,
        bundle=ArtifactRef("bundle", f"bundles/{packed.sha256}.zip", sha256, size),
        engine=engine,
        source=source_of(job),
        message="",
        created_at=0.0,
        finished_at=None,
    )
    records.create_sweep(sweep)
    advance(records, sweep.id)
    return Submitted(sweep, sweep.max_trials, _hinted(records, queue, sweep.id))


def _lines_of(path: Path) -> Mapping[Place, int]:
    """Return the line of each key of a sweep file; none where the sweep did not come from one."""
    try:
        return read_sheet(path).lines
    except SpecError:
        return {}


def _hinted(records: Records, queue: HintQueue | None, sweep: str) -> bool:
    """Send the first hints; the sweep stands without them, and the scheduler sends them again."""
    if queue is None:
        return False
    try:
        send_hints(records, queue, sweep)
    except OutOfReach as exc:
        log.warning("the sweep is submitted; its hints wait: %s", str(exc).splitlines()[0])
        return False
    return True


def source_of(job: Path) -> Mapping[str, Any]:
    """Return where the job came from: its folder, git commit, and whether that folder had changes."""
    folder = job.resolve().parent
    facts: dict[str, Any] = {"job": str(job.resolve()), "git_commit": None, "git_dirty": None}
    commit = _git(folder, "rev-parse", "HEAD")
    if commit:
        changes = _git(folder, "status", "--porcelain", "--", ".")
        facts |= {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}
    return facts


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""Turns a sweep file and a job file into a recorded sweep with its first trials and their hints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kerasweep.jobs.code.bundle import Bundle, bundle
from kerasweep.jobs.code.program import check_job, read_sweep
from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue import hints
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.models import EarlierResult, SweepRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.method import LEARNING
from kerasweep.jobs.sweepfile.sheet import Sheet, read_sheet
from kerasweep.jobs.sweepfile.spec import SweepSpec, parse_spec
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.deciding.advance import advance_from_afar, send_hints
from kerasweep.scheduler.deciding.origin import source_of
from kerasweep.scheduler.deciding.warming import take
from kerasweep.scheduler.samplers import learns, settled
from kerasweep.scheduler.samplers.requirements import PACKAGE_OF, lacking
from kerasweep.scheduler.stopping import rule_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submitted:
    """A recorded sweep; `announced` tells whether workers already know of its first trials."""

    sweep: SweepRecord
    announced: bool


def submit(
    source: Path | Mapping[str, Any],
    *,
    records: Records,
    artifacts: Artifacts,
    queue: HintQueue | None,
    engine: str = "auto",
    folder: Path | None = None,
    name: str | None = None,
    warm_from: tuple[Records, str] | None = None,
) -> Submitted:
    """Submit a sweep.

    Args:
        source: the sweep file, or its content.
        records: where the sweep is written.
        artifacts: where the job's bundle is kept.
        queue: where hints are sent; None if no Redis is running yet: the scheduler will send them.
        engine: auto, fit or pack.
        folder: what the job's path is relative to; by default the sweep file's folder, or the current one.
        name: a name that replaces the sweep file's.
        warm_from: an earlier sweep to learn from: where it is recorded, and its name.

    Raises:
        InputError: the sweep file or the job is not valid, or the earlier sweep teaches nothing; nothing was
            written.
        OutOfReach: Redis, the store or the artifacts do not respond; nothing was submitted, or the message
            says that this is unknown. Once the sweep is recorded, an outage is only logged.
    """
    folder = folder or (Path() if isinstance(source, Mapping) else source.parent)
    spec, sheet = _read(source, folder, name)
    spec, job = _settled(spec), folder / spec.job
    packed = pack_job(spec, job, sheet)
    earlier, origin = _earlier(spec, warm_from, source_of(job))
    _tell_what_lacks(spec)
    _note_unguided(spec, earlier)
    if queue:
        queue.ping()
    sweep = _record(spec, packed, origin, engine, records, artifacts, earlier)
    return Submitted(sweep, begin(records, queue, sweep))


def _settled(spec: SweepSpec) -> SweepSpec:
    """Return a sweep that leaves nothing open, as it is recorded."""
    spec = settled(spec)
    if spec.stopping is None:
        return spec
    guided = spec.planned_variants() if spec.method.name in LEARNING else None
    return spec.model_copy(update={"stopping": spec.stopping.settled(spec.most_epochs(), guided)})


def _note_unguided(spec: SweepSpec, earlier: Sequence[EarlierResult]) -> None:
    """Say so if cohorts are so large for the budget that a method which learns has nothing to learn from."""
    rule, last = rule_for(spec), spec.planned_variants() - 1
    learned = None if rule is None or earlier else rule.learned(last)
    if learned is None or not learns(spec, last, last) or learns(spec, last, learned):
        return
    size = spec.stopping.halving.size if spec.stopping and spec.stopping.halving else 0
    log.warning(
        "with cohorts of %d and %d trials no trial is drawn from results; "
        "write a smaller stopping.halving.cohort, or a larger budget",
        size,
        last + 1,
    )


def _tell_what_lacks(spec: SweepSpec) -> None:
    """Warn of a package that is not installed here: the scheduler, which needs it, may run elsewhere."""
    method = lacking(spec)
    if method is not None:
        log.warning(
            "method '%s' needs the package %s where the scheduler runs, and here it is not installed; "
            "pip install 'kerasweep[%s]' there, or use method tpe",
            *(method, PACKAGE_OF[method], method),
        )


def _earlier(
    spec: SweepSpec, warm_from: tuple[Records, str] | None, origin: Mapping[str, Any]
) -> tuple[Sequence[EarlierResult], Mapping[str, Any]]:
    """Return what to learn from an earlier sweep, and the origin of this one with a word about it."""
    if warm_from is None:
        return (), origin
    earlier, told = take(*warm_from, spec)
    return earlier, {**origin, "warm": asdict(told)}


def _read(
    source: Path | Mapping[str, Any], folder: Path, name: str | None
) -> tuple[SweepSpec, Callable[[], Sheet]]:
    """Return the sweep file's content, and a function that reads it again with the line of each key."""
    spec = read_sweep(source, folder)
    if name is not None:
        spec = parse_spec({**spec.model_dump(mode="json"), "name": name})
    return spec, lambda: Sheet({}) if isinstance(source, Mapping) else read_sheet(source)


def pack_job(spec: SweepSpec, job: Path, sheet: Callable[[], Sheet] = lambda: Sheet({})) -> Bundle:
    """Check a job against its sweep, and bundle it with its files.

    Raises:
        InputError: it does not match, or a file cannot be bundled.
    """
    check_job(spec, job, sheet)
    packed = bundle(job, spec.files)
    for note in packed.notes:
        log.warning("%s", note)
    return packed


def _record(
    spec: SweepSpec,
    packed: Bundle,
    origin: Mapping[str, Any],
    engine: str,
    records: Records,
    artifacts: Artifacts,
    earlier: Sequence[EarlierResult],
) -> SweepRecord:
    """Store the bundle and record the sweep, without trials yet."""
    key = f"bundles/{packed.sha256}.zip"
    sha256, size = artifacts.put(key, packed.data)
    sweep = SweepRecord(
        id=hints.new_sweep_id(),
        name=spec.name,
        state=SweepState.RUNNING,
        spec=spec,
        max_trials=spec.planned_trials(),
        entry=packed.entry,
        bundle=ArtifactRef("bundle", key, sha256, size),
        engine=engine,
        source=origin,
        message="",
        created_at=0.0,
        finished_at=None,
    )
    record(records, sweep, earlier)
    return sweep


def record(records: Records, sweep: SweepRecord, earlier: Sequence[EarlierResult] = ()) -> None:
    """Record a sweep, without trials yet, with what it learns from an earlier one.

    Raises:
        OutOfReach: the store does not respond; the message says that it may have been recorded.
    """
    try:
        records.create_sweep(sweep, earlier)
    except OutOfReach as exc:
        remedy = (
            f"It is unknown whether sweep {sweep.id} was recorded: `kerasweep status {sweep.id}` shows it "
            "once the store responds. Submit again only if there is no such sweep."
        )
        raise OutOfReach(exc.what, exc.url, remedy) from exc


def begin(records: Records, queue: HintQueue | None, sweep: SweepRecord) -> bool:
    """Decide on the first trials and announce them; the scheduler makes up for an outage.

    Returns:
        Whether workers were told.
    """
    try:
        advance_from_afar(records, sweep.id)
        if queue is not None:
            send_hints(records, queue, sweep.id)
    except OutOfReach as exc:
        outage = str(exc).splitlines()[0]
        log.warning(
            "sweep %s is submitted; a scheduler will start its trials after this outage: %s",
            sweep.id,
            outage,
        )
        return False
    return queue is not None

"""A round: an undisturbed sweep, the same sweep under faults, and the checker's verdict on the two."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from chaos import checker
from chaos.nemesis import Nemesis
from chaos.site import PostgresStore, Site, SqliteStore, Store

from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.models import SweepRecord
from kerasweep.jobs.trial import TrialKey, TrialState
from kerasweep.scheduler.deciding import control
from kerasweep.scheduler.deciding.replay import replay
from kerasweep.scheduler.deciding.submission import submit

JOB = Path(__file__).parent / "job"
_TICK_S = 0.05
#: Without a new epoch for this long, with no fault active, something is lost.
_STALL_S = 120.0
_TIDY_S = 30.0
#: The trial that is held back until the faults are over.
_HELD = 0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Reference:
    """The result of an undisturbed sweep: its final table, its total number of epochs, and its duration in
    seconds.
    """

    table: bytes
    trials: int
    epochs: int
    seconds: float


@dataclass
class Verdict:
    """The result of a disturbed sweep."""

    store: str
    faults: dict[str, int]
    attempts: int
    seconds: float
    findings: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return not self.findings and not self.differences


def write_job(folder: Path, *, small: bool = False, long: bool = False, halving: bool = False) -> Path:
    """Copy the job into a folder and return its sweep file.

    Args:
        folder: created if missing.
        small: 16 trials instead of 48.
        long: two trials that train for longer than anyone watches, with a checkpoint every 30 s.
        halving: trials are compared at rungs, in two cohorts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(JOB / "train.py", folder / "train.py")
    content = yaml.safe_load((JOB / "sweep.yaml").read_text(encoding="utf-8"))
    if small:
        content["parameters"]["learning_rate"] = {"values": [0.05]}
    if halving:  # the trial that is held back is in the first cohort: the other one ends without it
        content["stopping"] = {"halving": {"rungs": [1, 3], "factor": 2, "cohort": 8 if small else 24}}
    if long:
        content["parameters"] = {"learning_rate": {"values": [1e-4, 2e-4]}, "units": {"values": [2048]}}
        content["parameters"] |= {"rows": {"values": [16_384]}, "pace_s": {"values": [0.0]}}
        content["training"] = {"epochs": 100_000, "batch_size": 16, "xla": False}
        content["checkpoints"] = {"every_s": 30}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "sweep.yaml"


def open_store(kind: str, folder: Path) -> Store:
    """Return an empty store of a kind: sqlite or postgres."""
    folder.mkdir(parents=True, exist_ok=True)
    return SqliteStore(folder) if kind == "sqlite" else PostgresStore()


def submit_to(site: Site, file: Path) -> SweepRecord:
    """Submit a sweep to a site."""
    queue = HintQueue(site.settings.broker_url)
    try:
        return submit(file, records=site.records, artifacts=Artifacts(str(site.artifacts)), queue=queue).sweep
    finally:
        queue.close()


def run_reference(folder: Path, file: Path, tell: Tell) -> Reference:
    """Run the sweep undisturbed."""
    store = open_store("sqlite", folder)
    site = Site(folder, store)
    try:
        sweep = submit_to(site, file)
        began = time.monotonic()
        _until_ended(site, sweep, lambda progress: True)
        seconds = time.monotonic() - began
        table = checker.table(store.url, sweep.id)
        epochs = site.progress(sweep.id) or 0
        if differs := _replayed(site, sweep):
            raise AssertionError(f"even left alone: {differs[0]}")
    finally:
        site.close()
        store.close()
    tell(f"left alone: {sweep.max_trials} trials, {epochs} epochs, {seconds:.1f} s")
    return Reference(table, sweep.max_trials, epochs, seconds)


def run_disturbed(
    folder: Path,
    file: Path,
    reference: Reference,
    *,
    kind: str,
    seed: int,
    faults: int,
    tell: Tell,
    share: float = 0.75,
    kinds: Sequence[str] = (),
) -> Verdict:
    """Run the sweep under faults, dealt over the first share of its epochs, and judge what is left of it.

    Trial 0 is held back until the last fault is over: however fast the machine is, no sweep ends before.
    """
    store = open_store(kind, folder)
    site = Site(folder, store, doubled=True)
    try:
        sweep = submit_to(site, file)
        control.pause(site.records, sweep.id, _HELD)
        site.sweep = sweep.id
        nemesis = Nemesis(site, seed, faults, share * reference.epochs, tell, kinds)
        began = time.monotonic()
        _until_ended(site, sweep, lambda progress: nemesis.step(progress) or (nemesis.over and _let_go(site)))
        nemesis.undo_all()
        seconds = time.monotonic() - began
        attempts = len(site.records.attempts(sweep.id))
        _tidied(site, sweep, reference)
        replayed = _replayed(site, sweep)
        site.close()
        findings = _judge(site, sweep, reference) + checker.leftovers(site.marker) + replayed
        table = checker.table(store.url, sweep.id)
    finally:
        site.close()
        store.close()
    differences = checker.differences(reference.table, table)
    return Verdict(kind, nemesis.counts(), attempts, seconds, findings, differences)


def _let_go(site: Site) -> bool:
    """Resume the trial that was held back; tell whether it is."""
    with contextlib.suppress(KerasweepError):  # the store is only coming back
        key = TrialKey(site.sweep, _HELD)
        if site.records.trial(key).state is TrialState.PAUSED:
            control.resume(site.records, site.sweep, _HELD)
        return True
    return False


def _replayed(site: Site, sweep: SweepRecord) -> list[str]:
    """Decide the sweep again from its records; return the first difference, if there is one."""
    difference = replay(site.records, site.records.sweep(sweep.id)).difference
    return [] if difference is None else [f"replay: {difference}"]


def _judge(site: Site, sweep: SweepRecord, reference: Reference) -> list[str]:
    settings = site.settings
    return checker.check(
        settings.store_url,
        site.artifacts,
        sweep.id,
        trials=reference.trials,
        lease_s=settings.lease_s,
        grace_s=settings.orphan_grace_s,
    )


def _until_ended(site: Site, sweep: SweepRecord, step: Callable[[int], object]) -> None:
    """Keep everything running until the sweep has ended, calling `step` meanwhile.

    Raises:
        TimeoutError: nothing moved for two minutes.
    """
    furthest, moved_at = 0, time.monotonic()
    while not (site.ended(sweep.id)):
        site.tend()
        furthest_now = max(furthest, site.progress(sweep.id) or 0)
        busy = not step(furthest_now)
        if furthest_now > furthest:
            furthest, moved_at = furthest_now, time.monotonic()
        elif time.monotonic() - moved_at > _STALL_S * (2 if busy else 1):
            raise TimeoutError(f"sweep {sweep.id} stands still at {furthest} epochs; see {site.folder}")
        time.sleep(_TICK_S)


def _tidied(site: Site, sweep: SweepRecord, reference: Reference) -> None:
    """Let the scheduler clean up for a limited time: the checker decides."""
    deadline = time.monotonic() + _TIDY_S
    while time.monotonic() < deadline:
        site.tend()
        if not _judge(site, sweep, reference):
            return
        time.sleep(1.0)

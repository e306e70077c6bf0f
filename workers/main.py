"""The worker's process, `python -m kerasweep.workers.main`; `kerasweep worker` runs and supervises it."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import secrets
import signal
import sys
from types import FrameType

from kerasweep.jobs.errors import InputError, KerasweepError, OutOfReach
from kerasweep.jobs.queue import HintQueue
from kerasweep.jobs.settings import Settings, from_env
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.store.engine import wait_for
from kerasweep.jobs.store.records import Records
from kerasweep.workers.app import build_app, serve
from kerasweep.workers.bundles import BundleShelf
from kerasweep.workers.devices import DeviceSet, found_gpus, plan_devices
from kerasweep.workers.host import Host
from kerasweep.workers.ledger import Ledger
from kerasweep.workers.scratch import scratch_folder
from kerasweep.workers.tasks import Worker

log = logging.getLogger(__name__)

_STORE_DEADLINE_S = 60.0
#: A pack's least width where none is asked for.
_AUTO_SLOTS = 8


def main(argv: list[str] | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT; return the exit code, 2 for wrong input, 3 for out of reach."""
    form = "%(asctime)s worker %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    try:
        _serve(_flags().parse_args(argv), from_env())
    except KerasweepError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 2 if isinstance(exc, InputError) else 3 if isinstance(exc, OutOfReach) else 1
    return 0


def _serve(flags: argparse.Namespace, settings: Settings) -> None:
    signal.signal(signal.SIGTERM, _end)  # until Celery takes over
    gpus = found_gpus() if flags.gpus == "auto" else tuple(part for part in flags.gpus.split(",") if part)
    per_trial = max(1, flags.gpus_per_trial)
    device_sets = plan_devices(gpus, per_trial, flags.trainers, flags.logical_cpus, flags.threads)
    slots = flags.slots or _auto_slots(len(device_sets))
    records = Records(wait_for(settings.store, _STORE_DEADLINE_S, reach_s=settings.reach_s))
    artifacts = Artifacts(settings.artifacts)
    host = Host(device_sets, slots, settings)
    app = build_app(settings.broker_url)
    name = flags.name or f"worker-{secrets.token_hex(3)}@{platform.node()}"
    ledger = Ledger(records, settings, name, _facts(device_sets, slots, flags.engine))
    with scratch_folder() as folder:
        bundles = BundleShelf(artifacts, folder / "bundles")
        # Not Celery's own connections: those wait longer for a frozen Redis than a worker's end may take.
        queue = HintQueue(settings.broker_url, settings.reach_s)
        worker = Worker(name, settings, records, queue, host, ledger, bundles, flags.engine)
        try:
            host.start()
            ledger.start()
            serve(app, worker, sorted({queue for devices in device_sets for queue in devices.queues}))
        finally:
            worker.leave()


def _auto_slots(trainers: int) -> int:
    """Return a pack's width: two trials for each core: one computes while another is between epochs.

    More were measured to bring no speed; where memory is short, the trainer lets fewer of them in.
    """
    return max(_AUTO_SLOTS, 2 * len(os.sched_getaffinity(0)) // trainers)


def _facts(device_sets: list[DeviceSet], slots: int, engine: str) -> dict[str, object]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "trainers": len(device_sets),
        "slots": slots,
        "engine": engine,
        "devices": [devices.name for devices in device_sets],
        "gpus_per_trial": max(devices.replicas for devices in device_sets),
        "queues": sorted({queue for devices in device_sets for queue in devices.queues}),
    }


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kerasweep worker")
    parser.add_argument("--trainers", type=_count, default=None, help="trainer processes: auto, or how many")
    parser.add_argument("--slots", type=_count, default=None, help="trials of one pack: auto, or how many")
    parser.add_argument("--gpus", default="auto", help="auto, or indices such as 0,1; empty for none")
    parser.add_argument("--gpus-per-trial", type=int, default=1)
    parser.add_argument("--logical-cpus", type=int, default=0)
    parser.add_argument("--engine", choices=["auto", "fit", "pack"], default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--name", default=None)
    return parser


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be auto or a whole number above 0, got {text!r}")
    return int(text)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())

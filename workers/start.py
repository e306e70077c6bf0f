"""The worker's process, `python -m kerasweep.workers.start`; `kerasweep worker` runs and supervises it."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
from types import FrameType

from kerasweep.jobs.errors import GaveUp, InputError, KerasweepError, OutOfReach
from kerasweep.jobs.kernel import exit_at_once
from kerasweep.jobs.printable import log_to_stderr, printable
from kerasweep.jobs.settings import Settings, from_env
from kerasweep.workers.autoscale import Scale
from kerasweep.workers.devices import found_gpus, plan_devices, read_gpus
from kerasweep.workers.host import Host
from kerasweep.workers.scratch import scratch_folder

#: The minimum width of a pack if none is requested.
_AUTO_SLOTS = 8
#: By this factor a pack may grow if that measures faster.
_WIDEST = 4


def main(argv: list[str] | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT; return the exit code, 2 for wrong input, 3 for out of reach."""
    form = "%(asctime)s worker %(levelname)s %(message)s"
    log_to_stderr(form)
    gc.disable()  # it takes a third of an import
    logging.getLogger("kerasweep").setLevel(logging.INFO)  # Celery silences the root logger when it starts
    try:
        _serve(_flags().parse_args(argv), from_env())
    except GaveUp as exc:
        sys.stderr.write(printable(f"error: {exc}\n"))
        return exc.exit_code
    except KerasweepError as exc:
        sys.stderr.write(printable(f"error: {exc}\n"))
        return 2 if isinstance(exc, InputError) else 3 if isinstance(exc, OutOfReach) else 1
    return 0


def _serve(flags: argparse.Namespace, settings: Settings) -> None:
    signal.signal(signal.SIGTERM, _end)  # until Celery takes over
    named = flags.gpus != "auto"
    gpus = read_gpus(flags.gpus) if named else found_gpus()
    per_trial = max(1, flags.gpus_per_trial)
    device_sets = plan_devices(gpus, per_trial, flags.trainers, flags.logical_cpus, flags.threads)
    host = Host(device_sets, flags.slots or _auto_slots(len(device_sets)), settings)
    with scratch_folder() as folder:
        host.start()
        # Trainers take seconds to load TensorFlow; this process loads its own libraries meanwhile.
        from kerasweep.workers.work import work

        gc.freeze()
        gc.enable()
        most = _largest(host.scale, flags, bool(gpus))
        work(host, most, settings, folder, flags.engine, flags.name, gpus_needed=named)


def _auto_slots(trainers: int) -> int:
    """Return the initial width of a pack: two trials for each core, so that one computes while another is
    between epochs.

    It grows if more measure faster; if memory is short, the trainer admits fewer.
    """
    return max(_AUTO_SLOTS, 2 * len(os.sched_getaffinity(0)) // trainers)


def _largest(scale: Scale, flags: argparse.Namespace, gpus: bool) -> Scale:
    """Return how far a worker may scale itself: not beyond explicit numbers, nor in trainers on GPUs."""
    cores = len(os.sched_getaffinity(0))
    fixed = flags.trainers or gpus or flags.threads
    return Scale(
        scale.trainers if fixed else max(scale.trainers, cores),
        flags.slots or _WIDEST * scale.slots,
    )


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kerasweep worker")
    parser.add_argument("--trainers", type=_count, default=None, help="trainer processes: auto, or a number")
    parser.add_argument("--slots", type=_count, default=None, help="trials per pack: auto, or a number")
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
    exit_at_once(main())

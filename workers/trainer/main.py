"""The trainer process: reads orders from one pipe, writes events to another, and trains between them.

    python -P -m kerasweep.workers.trainer.main --in-fd 3 --out-fd 4 --artifacts URL --parent-pid PID

It ends when its host does: the kernel kills it with the thread that started it, and so does the end of the
pipe.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str] | None = None) -> None:
    """Run the trainer until its host says `exit` or disappears."""
    flags = _flags(arguments)
    die_with(flags.parent_pid)
    leave_the_end_to_the_host()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever other tools left in the environment
    forget_the_current_folder()
    gc.disable()  # it takes a third of the import; `serve` enables it again
    from kerasweep.workers.trainer.serve import serve  # TensorFlow is loaded here, with the environment set

    own = None if flags.folders else tempfile.mkdtemp(prefix="kerasweep-trials-")
    folders = Path(flags.folders or own or "")
    try:
        serve(flags.in_fd, flags.out_fd, flags.artifacts, flags.threads, flags.logical_cpus, folders)
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)
    # Threads of TensorFlow and of the job may still run; nothing of theirs is needed.
    os._exit(0)


def die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    if not parent_pid:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)


def leave_the_end_to_the_host() -> None:
    """Ignore Ctrl-C in the host's terminal and SIGTERM, which must not end a trainer in mid-epoch.

    The job's own children still end by them: otherwise a `multiprocessing` pool could not be closed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    os.register_at_fork(after_in_child=_default_signals)


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def forget_the_current_folder() -> None:
    """Remove the current folder from the path: a job's code comes with the job.

    `python -m` puts it there, and so does an empty entry in PYTHONPATH.
    """
    here = os.getcwd()
    named = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [entry for entry in sys.path if entry and (entry != here or here in named)]


def _flags(arguments: list[str] | None) -> Any:
    from kerasweep.jobs.settings import (
        ARTIFACTS_URL,
    )  # not above: children that a job spawns execute this module

    parser = argparse.ArgumentParser(prog="kerasweep-trainer", description=__doc__)
    parser.add_argument("--in-fd", type=int, required=True, help="orders, JSON lines")
    parser.add_argument("--out-fd", type=int, required=True, help="events, JSON lines")
    told = {"default": os.environ.pop(ARTIFACTS_URL)} if ARTIFACTS_URL in os.environ else {"required": True}
    parser.add_argument("--artifacts", help=f"URL of the artifacts; or {ARTIFACTS_URL}", **told)
    parser.add_argument("--parent-pid", type=int, default=0, help="the host; 0 for none")
    parser.add_argument(
        "--folders", default="", help="the folder for trials' working folders; a new one by default"
    )
    parser.add_argument("--threads", type=int, default=0, help="operations at once; 0 for one per core")
    parser.add_argument("--logical-cpus", type=int, default=1, help="CPU devices to show, to try replicas")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

"""A small process between a worker and a trainer: the trainer's parent, and the end of all that it started.

A job may signal its parent, or start processes in sessions of their own and forget them. Here they find this
process, which listens to its worker alone, adopts every orphan below it and takes them down with the trainer.
It runs by itself, as `python -I -S guard.py`: it imports nothing of ours and needs 10 ms and 10 MB.

Linux alone; see prctl(2), PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

#: What is guarded, as a JSON list, and the worker's process number; neither is passed on.
COMMAND, PARENT = "KERASWEEP_GUARDED", "KERASWEEP_GUARD_OF"

#: Whether there is a guard on this system.
GUARDS = sys.platform == "linux"

_PDEATHSIG, _SUBREAPER = 1, 36
#: Come from the kernel for what this process itself did, and must end it.
_OWN_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
_HEARD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP}
_LOOK_S, _BURY_S, _PAUSE_S = 5.0, 5.0, 0.01


def guarded(command: list[str], environ: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment that run a command under a guard.

    The command itself is not part of the line, so that who looks for trainers by it finds no guards.
    """
    if not GUARDS:
        return command, environ
    return [sys.executable, "-I", "-S", __file__], {
        **environ,
        COMMAND: json.dumps(command),
        PARENT: str(os.getpid()),
    }


def main() -> None:
    """Run the command, wait for its end, bury what it left, and end as it did."""
    command, parent = json.loads(os.environ.pop(COMMAND)), int(os.environ.pop(PARENT))
    libc = ctypes.CDLL(None)
    libc.prctl(_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _OWN_FAULTS)
    if os.getppid() != parent:
        os._exit(1)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _become(libc, command, guard, before)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # its pipes must end with it
    status = _watch(child, parent)
    _bury()
    _end_like(status)


def _become(libc: ctypes.CDLL, command: list[str], guard: int, mask: set[int]) -> None:
    try:
        os.setsid()
        libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == guard:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvp(command[0], command)
    finally:
        os._exit(127)


def _watch(child: int, parent: int) -> int:
    """Wait for the child's end and return its status; the worker may ask for it, and its death does."""
    status = None
    while status is None:
        heard = signal.sigtimedwait(_HEARD, _LOOK_S)
        told = heard is not None and heard.si_signo == signal.SIGTERM and heard.si_pid == parent
        if told or os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
        status = _reap(child)
    return status


def _reap(child: int) -> int | None:
    """Take leave of those below that have ended; return the child's status if it is one of them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found = ended[1] if ended[0] == child else found
    return found


def _bury() -> None:
    """End all that is left below this process; each orphan becomes its child."""
    deadline = time.monotonic() + _BURY_S
    while (left := _below(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)
        _reap(0)


def _below(pid: int) -> list[int]:
    """Return all descendants of a process, those that have ended and are not reaped among them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, rest = [], [pid]
    while rest:
        rest = [kid for one in rest for kid in children.get(one, [])]
        found += rest
    return found


def _end_like(status: int) -> None:
    """End with the child's exit code, or by its signal."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has left one already
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if not number else 128 + number)


if __name__ == "__main__":
    main()

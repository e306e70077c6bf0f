"""A small process between a worker and a trainer: it is the trainer's parent, and ends everything that it
started.

A job may signal its parent, or start processes in separate sessions and forget them. Here they meet this
process, which only obeys its worker, adopts every orphan below it and ends them with the trainer. It runs
standalone, as `python -I -S guard.py`: it imports nothing of ours and needs 10 ms and 10 MB.

Linux only; see prctl(2), PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG.
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

#: The guarded command, as a JSON list, and the worker's process number; neither is passed on.
COMMAND, PARENT = "KERASWEEP_GUARDED", "KERASWEEP_GUARD_OF"

#: Whether this system supports a guard.
GUARDS = sys.platform == "linux"

_PDEATHSIG, _SUBREAPER = 1, 36
#: Sent by the kernel for faults of this process itself, and must end it.
_OWN_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
_HEARD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP}
_LOOK_S, _BURY_S, _PAUSE_S = 5.0, 5.0, 0.01


def guarded(command: list[str], environ: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment that run a command under a guard.

    The command itself is not part of the line, so that a search for trainers by command line finds no guards.
    """
    if not GUARDS:
        return command, environ
    return [sys.executable, "-I", "-S", __file__], {
        **environ,
        COMMAND: json.dumps(command),
        PARENT: str(os.getpid()),
    }


def main() -> None:
    """Run the command, wait for it to end, clean up what it left, and exit as it did."""
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
    """Wait for the child to end and return its status; end it when the worker asks or dies."""
    status = None
    while status is None:
        heard = signal.sigtimedwait(_HEARD, _LOOK_S)
        told = heard is not None and heard.si_signo == signal.SIGTERM and heard.si_pid == parent
        if told or os.getppid() != parent:
            os.kill(child, signal.SIGKILL)
        status = _reap(child)
    return status


def _reap(child: int) -> int | None:
    """Reap descendants that have ended; return the child's status if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found = ended[1] if ended[0] == child else found
    return found


def _bury() -> None:
    """End everything left below this process; each orphan becomes its child."""
    deadline = time.monotonic() + _BURY_S
    while (left := _below(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)
        _reap(0)


def _below(pid: int) -> list[int]:
    """Return all descendants of a process, including zombies."""
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
    """Exit with the child's exit code, or by its signal."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has already left one
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if not number else 128 + number)


if __name__ == "__main__":
    main()

"""Runs a command that dies with the process that started it.

A child that outlives a killed parent keeps its device, its memory and its lock. Linux sends a signal on the
parent's death (`prctl(2)`, PR_SET_PDEATHSIG), but only the child itself can ask for it, and between `fork`
and `exec` nothing in Python is safe in a process that has threads. So the command is started through a small
Python program that asks for the signal, checks that the parent is still alive, and becomes the command.

For the kernel the parent is the *thread* that started the child: start it from one that lives as long as the
child should.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# -I -S below: no user code, no site-packages, 10 ms. Without prctl (macOS) there is no leash.
_SHIM = """
import ctypes, os, sys
parent, number, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
try:
    ctypes.CDLL(None).prctl(1, number)
except AttributeError:
    pass
if os.getppid() != parent:
    sys.exit(0)
try:
    os.execvp(command[0], command)
except OSError as exc:
    sys.exit(f"{command[0]} would not start: {exc.strerror}")
"""


def leashed(command: Sequence[str], on_death: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return a command that runs `command` and ends it when the calling process ends.

    Args:
        command: the program, looked up on the PATH, and its arguments.
        on_death: the signal sent to the program when the calling thread ends.
    """
    return [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), str(int(on_death)), *command]

"""Supervises a command: starts it, restarts it when it dies, stops it on request.

A worker may die for many reasons: a driver may crash it, or someone may tell the process itself to end. So
`kerasweep worker`, `scheduler` and `run` run theirs as children, and only a signal to the supervisor ends
them for good.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kerasweep.jobs.errors import GaveUp, Halted
from kerasweep.scheduler.local.leash import leashed
from kerasweep.scheduler.local.rotation import rotate

log = logging.getLogger(__name__)

# The code that means that another start would end the same way: "the input was wrong". 0 is not one of them:
# the child was told to end, and not by us.
_FINAL_CODES = frozenset({2})
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL_S = 0.1
_OTHERS_DOING = frozenset({0, -signal.SIGTERM, GaveUp.exit_code})


@dataclass(frozen=True)
class Patience:
    """How often a command may die.

    A command that dies within `fast_s` of its start `fast_deaths` times in a row is given up, unless it was
    told to end or Celery stopped by itself: others can cause that as often as they like. The pause before a
    restart doubles with each fast death, from `first_pause_s` to at most `longest_pause_s`.
    """

    fast_s: float = 10.0
    fast_deaths: int = 8
    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0

    def pause_s(self, deaths: int) -> float:
        """Return the pause after this many fast deaths in a row, in seconds."""
        doublings = min(max(deaths - 1, 0), 60)  # beyond that a float overflows
        return min(self.first_pause_s * 2.0**doublings, self.longest_pause_s)


class Child:
    """A command that `poll` keeps running. It dies with this process and ignores Ctrl-C of the terminal.

    Args:
        command: the program and its arguments.
        name: its name in logs and errors.
        grace_s: how long it may take to end once asked, in seconds; then it is killed.
        environ: its environment; None for this process's own.
        log_path: a file to which its output is appended; None for this process's own output.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        grace_s: float,
        *,
        environ: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command, self.name, self.grace_s = list(command), name, grace_s
        self._environ = None if environ is None else dict(environ)
        self._log_path = log_path
        self._patience = patience or Patience()
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = clock()
        self._deaths = 0  # fast ones in a row

    @property
    def pid(self) -> int | None:
        """The id of the running process, or None."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the command."""
        output = None if self._log_path is None else self._log_path.open("ab")
        try:
            self._process = subprocess.Popen(
                leashed(self.command),
                env=self._environ,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        finally:
            if output is not None:
                output.close()
        self._started = self._clock()

    def poll(self) -> int | None:
        """Restart the command if it died and its pause is over.

        Returns:
            The exit code with which it ended for good, or None while it is to be kept running.

        Raises:
            Halted: it keeps dying.
        """
        if self._log_path is not None:
            rotate(self._log_path)
        if self._process is None:
            if self._clock() >= self._next_start:
                self.start()
            return None
        code = self._process.poll()
        if code is not None and code not in _FINAL_CODES:
            self._process = None
            self._bury(code)
            return None
        return code

    def ask(self) -> None:
        """Ask the command to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command now."""
        self._send(signal.SIGKILL)

    def wait(self) -> int:
        """Wait for it to end within the grace, then kill it; return its exit code, 128 + n for signal n."""
        if self._process is None:
            return 0
        try:
            code = self._process.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            log.warning(
                "%s did not end within its grace period of %g s and was killed", self.name, self.grace_s
            )
            self.kill()
            code = self._process.wait()
        return _shell_code(code)

    def stop(self) -> int:
        """Ask the command to end and wait for it; return its exit code."""
        self.ask()
        return self.wait()

    def last_error(self) -> str:
        """Return the last `error: …` in its log, or where to look for it."""
        text = "" if self._log_path is None else self._log_path.read_text(encoding="utf-8", errors="replace")
        _, found, error = text.rpartition("error: ")
        return error.strip() if found else f"{self._where()} says why"

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # no effect once the process is reaped

    def _bury(self, code: int) -> None:
        """Record a death and schedule the next start, or give up."""
        now = self._clock()
        age_s = now - self._started
        self._deaths = self._deaths + 1 if age_s < self._patience.fast_s else 0
        end = _describe(code)
        if self._deaths >= self._patience.fast_deaths and code not in _OTHERS_DOING:
            raise Halted(
                f"{self.name} ended {self._deaths} times in a row within {self._patience.fast_s:g} s of its "
                f"start, last with {end}; {self._where()} says why"
            )
        pause_s = self._patience.pause_s(self._deaths)
        log.warning("%s ended with %s after %.1f s; restarting in %g s", self.name, end, age_s, pause_s)
        self._next_start = now + pause_s

    def _where(self) -> str:
        return "its output above" if self._log_path is None else f"its log {self._log_path}"


def supervise(child: Child) -> int:
    """Run the child until it is done or this process is asked to stop; return its exit code.

    The first SIGTERM, SIGINT or SIGHUP is passed on as SIGTERM, and the child has its grace period; a second
    SIGINT kills it. Call it from the main thread, where signal handlers work.

    Raises:
        Halted: the child keeps dying.
    """
    with _caught_signals() as caught:
        child.start()
        try:
            while not caught:
                code = child.poll()
                if code is not None:
                    return code
                time.sleep(_POLL_S)  # a signal's handler runs at once; the loop sees it afterwards
            return _end(child, caught)
        finally:
            child.kill()
            child.wait()


def _end(child: Child, caught: list[int]) -> int:
    """Ask the child to end; kill it on a second SIGINT or when its grace period is over."""
    child.ask()
    deadline = time.monotonic() + child.grace_s
    # Any signal after the first, since the second may arrive before this line runs.
    while child.pid is not None and time.monotonic() < deadline and signal.SIGINT not in caught[1:]:
        time.sleep(_POLL_S)
    if child.pid is not None:
        log.warning("%s was killed before it stopped by itself", child.name)
        child.kill()
    return child.wait()


@contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Collect the signals that ask this process to end, in order of arrival."""
    caught: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

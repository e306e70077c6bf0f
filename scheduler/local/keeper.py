"""Keeps Redis, the scheduler and the worker of `kerasweep run --keep-warm` for the next run of the folder.

Run as `python -m kerasweep.scheduler.local.keeper DESCRIPTOR [WORKER_FLAG…]`, in a session of its own. Two
files in the home folder, each held through a lock that ends with its holder (`HeldFile`), say who is there:

    warm/keeper   held by this process; its text is the `KeeperState` that runs read
    warm/guest    held by the run that uses it; its text is an `GuestOrder`, or the time until which to stay

So no process number is trusted and nothing can be left behind that matters: a run that is killed releases its
file, and everything here ends with it; if this process is killed, all that it started dies with it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType

from kerasweep.jobs.errors import InputError, KerasweepError, OutOfReach
from kerasweep.jobs.kernel import exit_at_once
from kerasweep.jobs.printable import log_to_stderr
from kerasweep.jobs.settings import Settings, from_env
from kerasweep.scheduler.local.embedded import Local
from kerasweep.scheduler.local.held_file import HeldFile
from kerasweep.scheduler.local.surroundings import surroundings

log = logging.getLogger(__name__)

_POLL_S = 0.1
#: The pause between two looks at what its worker trains.
_LOOK_S = 1.0
#: How long a run may take to read why this process failed.
_TOLD_S = 10.0


class GuestOrder(StrEnum):
    """What a run wants of the keeper while it holds the guest's file."""

    STAY = "stay"
    END = "end"
    KILL = "kill"


@dataclass(frozen=True)
class KeeperState:
    """What a keeper tells runs: whether everything is started, with what it was, and why it failed."""

    salt: str
    surroundings: dict[str, str] = field(default_factory=dict)
    ready: bool = False
    error: str = ""
    code: int = 0

    @staticmethod
    def parse(text: str) -> KeeperState | None:
        """Return the state, or None if it is not written yet."""
        with suppress(ValueError, TypeError):
            return KeeperState(**json.loads(text))
        return None

    def dump(self) -> str:
        """Return the text for `parse`."""
        return json.dumps(asdict(self))


def keeper_file(home: Path) -> HeldFile:
    """Return the file of a home folder's keeper."""
    return HeldFile(home / "warm" / "keeper")


def guest_file(home: Path) -> HeldFile:
    """Return the file of the run that uses the keeper."""
    return HeldFile(home / "warm" / "guest")


def stay_until(text: str) -> float | None:
    """Return until when a keeper without a guest stays, on the monotonic clock; None if it is to end."""
    try:
        return float(text)
    except ValueError:
        return None


class Keeper:
    """Runs what a sweep needs for one run after another.

    Args:
        settings: where things are.
        worker_flags: the worker's flags.
        descriptor: the keeper's file, held by the run that started this process.
    """

    def __init__(self, settings: Settings, worker_flags: Sequence[str], descriptor: int) -> None:
        self._settings, self._flags = settings, list(worker_flags)
        self._own, self._guest = keeper_file(settings.home_path), guest_file(settings.home_path)
        self._own.adopt(descriptor)
        self._local = Local(settings, worker_flags)
        self._asked: list[int] = []
        self._busy_until = 0.0

    def serve(self) -> None:
        """Start everything, and end it once no run has come for as long as the last one said.

        Raises:
            KerasweepError: something does not start or keeps dying; the run was told.
        """
        try:
            self._keep()
        except KerasweepError as exc:
            self._tell(exc)
            raise
        finally:
            self._clear()

    def note(self, number: int, _: FrameType | None) -> None:
        """Handle a signal: the first ends everything cleanly, a second one at once."""
        self._asked.append(number)
        if len(self._asked) > 1:
            self._local.kill()

    def _keep(self) -> None:
        salt = secrets.token_hex(8)
        state = KeeperState(salt, surroundings(self._flags, os.environ, salt))
        self._own.write(state.dump())
        with self._local:
            self._own.write(KeeperState(salt, state.surroundings, ready=True).dump())
            while not self._is_over():
                self._local.check()
                time.sleep(_POLL_S)
            threading.Thread(target=self._obey_impatience, daemon=True).start()

    def _obey_impatience(self) -> None:
        """Kill everything if the run says so while it ends cleanly."""
        while self._guest.read() != GuestOrder.KILL:
            time.sleep(_POLL_S)
        self._local.kill()

    def _is_over(self) -> bool:
        """Whether to end: somebody says so, the guest has died, or no guest came in time."""
        if self._asked or not self._own.in_place:
            return True
        text = self._guest.read()
        until = stay_until(text)
        if until is None:
            return text in (GuestOrder.END, GuestOrder.KILL) or self._is_left()
        if time.monotonic() <= max(until, self._busy_until):
            return False
        if not self._trains():
            return self._is_left()
        if not self._busy_until:
            log.info("staying: a sweep is being trained that was submitted meanwhile")
        self._busy_until = time.monotonic() + _LOOK_S
        return False

    def _is_left(self) -> bool:
        """Take the guest's file, unless a run holds it or has just said how long to stay."""
        if not self._guest.hold(create_folder=False):
            return False
        until = stay_until(self._guest.read())
        if until is not None and time.monotonic() <= until:
            self._guest.release()
            return False
        self._guest.write(GuestOrder.END)
        return True

    def _clear(self) -> None:
        """Remove the files, unless a run waits for the end of this process and then does it."""
        if self._own.in_place and self._guest.hold(create_folder=False):
            self._guest.remove()
            self._own.remove()
            with suppress(OSError):
                self._own.path.parent.rmdir()

    def _trains(self) -> bool:
        """Whether its worker trains a sweep that was submitted meanwhile."""
        from kerasweep.jobs.store.records import Records  # heavy, and seldom needed

        try:
            records = Records(self._settings.store, reach_s=self._settings.reach_s)
        except KerasweepError:
            return False
        try:
            workers = records.alive()
        except KerasweepError:
            return False
        finally:
            records.close()
        pids = self._local.pids
        return any(one.facts.get("pid") in pids and any(one.facts.get("packs", ())) for one in workers)

    def _tell(self, exc: KerasweepError) -> None:
        """Write down why it failed, and wait until the run has read it."""
        code = 2 if isinstance(exc, InputError) else 3 if isinstance(exc, OutOfReach) else 1
        self._own.write(KeeperState("", error=str(exc), code=code).dump())
        deadline = time.monotonic() + _TOLD_S
        while self._guest.held and self._guest.read() == GuestOrder.STAY and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def main(argv: Sequence[str]) -> int:
    """Keep everything until no run needs it; return the exit code."""
    log_to_stderr("%(message)s")
    keeper = Keeper(from_env(), argv[1:], int(argv[0]))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, keeper.note)
    try:
        keeper.serve()
    except KerasweepError as exc:
        log.error("%s", exc)
        return 1
    return 0


if __name__ == "__main__":
    exit_at_once(main(sys.argv[1:]))

"""What `kerasweep run --keep-warm` runs on: processes that outlive it for a while, and serve the next run.

The first run starts a keeper (`keeper.py`), which starts Redis, the scheduler and the worker; later runs of
the folder find it through its files. Only one run uses it at a time; another one that comes meanwhile starts
processes of its own, as without `--keep-warm`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from kerasweep.jobs.errors import Halted, InputError, KerasweepError, OutOfReach
from kerasweep.jobs.settings import Settings, to_env
from kerasweep.scheduler.local.embedded import Local
from kerasweep.scheduler.local.keeper import GuestOrder, KeeperState, guest_file, keeper_file, stay_until
from kerasweep.scheduler.local.redis_server import RedisServer
from kerasweep.scheduler.local.surroundings import differences, surroundings

log = logging.getLogger(__name__)

KEEPER = [sys.executable, "-P", "-m", "kerasweep.scheduler.local.keeper"]
#: Runs the command after it and leaves it to the system, so that it is no zombie when it ends.
_DETACHED = [
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import os, sys; os.fork() or os.execv(sys.argv[1], sys.argv[1:])",
]
_POLL_S = 0.05
_READY_S = 60.0
#: Beyond the grace period of the worker.
_SPARE_S = 20.0
_MOST_STARTS = 3
_NAMED = 4


class KeptLocal(Local):
    """A `Local` whose processes may stay for the next run, or that joins those of an earlier one.

    Args:
        settings: where things are; an empty broker URL starts the embedded Redis.
        worker_flags: flags for the worker, as `kerasweep worker` takes them.
        keep_s: how long everything stays once the sweep has ended, in seconds; 0 to end it.
        say: tells the user something.
    """

    def __init__(
        self,
        settings: Settings,
        worker_flags: Sequence[str],
        keep_s: float,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(settings, worker_flags)
        self._keep_s, self._say = keep_s, say
        self._keeper, self._guest = keeper_file(settings.home_path), guest_file(settings.home_path)
        self._log_path = settings.home_path / "logs" / "keeper.log"
        self._environ = {**os.environ, **to_env(settings)}
        self._starts = self._read_bytes = 0
        self._staying = self._ended_well = False

    def start_worker(self) -> None:
        """Join what an earlier run has kept, or start a keeper, or start everything here; see `Local`."""
        if not self._staying and not self._children:
            self._staying = self._come_in()
        if not self._staying:
            super().start_worker()

    def __enter__(self) -> KeptLocal:
        self.start_worker()
        if not self._staying:
            super().__enter__()
            return self
        deadline = time.monotonic() + _READY_S
        while not self._is_ready():
            if time.monotonic() > deadline:
                self.close()
                raise Halted(f"Redis and the worker did not start in {_READY_S:g} s; see {self._log_path}")
            time.sleep(_POLL_S)
        if self.settings.embedded_broker:
            self.settings = replace(
                self.settings, broker_url=RedisServer(self.settings.home_path / "redis").url
            )
        return self

    def check(self) -> None:
        """Repeat the keeper's messages, and start it again if it was killed; see `Local.check`."""
        if not self._staying:
            super().check()
            return
        self._repeat_messages()
        state = KeeperState.parse(self._keeper.read())
        if state is not None and state.error:
            raise _error_of(state, self.settings.broker_url)
        if not self._keeper.held:
            log.warning("the processes of this run were killed; starting them again")
            self._launch()

    def keep(self) -> None:
        """Let everything stay at `close`: the sweep has ended as it should."""
        self._ended_well = True

    def kill(self) -> None:
        """Kill the worker and the scheduler at once, without a grace period."""
        if self._staying:
            self._guest.write(GuestOrder.KILL)
        super().kill()

    def close(self) -> None:
        """Leave everything to the next run if it is to stay, and end it otherwise."""
        if self._staying:
            if self._ended_well and self._keep_s and self._keeper.held:
                self._guest.write(str(time.monotonic() + self._keep_s))
                self._guest.release()
            else:
                self._end_keeper()
                self._go()
            self._staying = False
        super().close()

    def _come_in(self) -> bool:
        """Return whether a keeper serves this run from now on."""
        if not self._hold_guest():
            self._say("another run uses what is kept warm in this folder; starting a worker of its own")
            return False
        if self._keeper.held and self._joins():
            return True
        if self._keep_s and not self._keeper.held:
            self._launch()
            return True
        self._go()
        return False

    def _go(self) -> None:
        """Remove what a keeper that was killed has left."""
        if not self._keeper.held:
            self._keeper.path.unlink(missing_ok=True)
        self._guest.remove()
        with suppress(OSError):
            self._guest.path.parent.rmdir()

    def _hold_guest(self) -> bool:
        """Hold the guest's file; wait for a keeper that is just ending."""
        deadline = time.monotonic() + self.settings.grace_s + _SPARE_S
        while not self._guest.hold():
            if self._guest.read() not in (GuestOrder.END, GuestOrder.KILL) or time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _joins(self) -> bool:
        """Join the keeper if it was started with what this run would start it with; end it otherwise."""
        state = KeeperState.parse(self._keeper.read())
        if state is None or not state.ready or stay_until(self._guest.read()) is None:
            self._end_keeper()  # it is ending already: its run was killed
            return False
        mine = surroundings(self._worker_flags, self._environ, state.salt)
        different = differences(mine, state.surroundings)
        if different:
            more = f" and {len(different) - _NAMED} more" if len(different) > _NAMED else ""
            told = ", ".join(different[:_NAMED]) + more
            self._say(f"ending what was kept warm: it was started with another environment ({told})")
            self._end_keeper()
            return False
        self._guest.write(GuestOrder.STAY)
        self._read_bytes = self._log_path.stat().st_size if self._log_path.exists() else 0
        self._say("using the worker that an earlier run kept warm")
        return True

    def _launch(self) -> None:
        self._starts += 1
        if self._starts > _MOST_STARTS:
            raise Halted(f"the processes of this run were killed {_MOST_STARTS} times; see {self._log_path}")
        self._guest.write(GuestOrder.STAY)
        if self._keeper.hold():
            self._keeper.write("")
            self._start_keeper()
            self._keeper.release()

    def _start_keeper(self) -> None:
        """Start the keeper as nobody's child, holding its file from the beginning."""
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._read_bytes = 0
        with self._log_path.open("wb") as output:
            subprocess.run(
                [*_DETACHED, *KEEPER, str(self._keeper.lent), *self._worker_flags],
                env=self._environ,
                start_new_session=True,
                pass_fds=[self._keeper.lent],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )

    def _is_ready(self) -> bool:
        self.check()
        state = KeeperState.parse(self._keeper.read())
        return state is not None and state.ready and self._keeper.held

    def _end_keeper(self) -> None:
        """Ask the keeper to end, unless it is told to do so at once, and wait for it."""
        if self._guest.read() != GuestOrder.KILL:
            self._guest.write(GuestOrder.END)
        deadline = time.monotonic() + self.settings.grace_s + _SPARE_S
        while self._keeper.held:
            if time.monotonic() > deadline:
                log.warning("what was kept warm does not end; its log is %s", self._log_path)
                return
            time.sleep(_POLL_S)

    def _repeat_messages(self) -> None:
        try:
            with self._log_path.open("rb") as file:
                file.seek(self._read_bytes)
                new = file.read()
        except FileNotFoundError:
            return
        self._read_bytes += len(new)
        for line in new.decode(errors="replace").splitlines():
            log.warning("%s", line)


def _error_of(state: KeeperState, broker_url: str) -> KerasweepError:
    if state.code == 3:
        first, _, remedy = state.error.partition("\n")
        return OutOfReach("Redis", broker_url, remedy, first)
    return InputError(state.error) if state.code == 2 else Halted(state.error)

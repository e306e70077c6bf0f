"""A trainer as its host sees it: a child process, its runs, and their events.

One thread for each trainer starts the process, reads its events and reaps it: Linux ends a child when the
*thread* that started it ends, so that thread lives exactly as long as the child should. A second thread
writes, so that a stopped child can never block the host. The child is a guard, and the trainer is the guard's
child.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from kerasweep.jobs.errors import PipeDefect
from kerasweep.jobs.kernel import LIFE, KernelKills, cpu_seconds, end_life
from kerasweep.jobs.pipe import (
    EVENTS,
    DecidedOrder,
    DoneEvent,
    EndEvent,
    Event,
    ExitOrder,
    HeldEvent,
    Order,
    PipeReader,
    PipeWriter,
    ReadyEvent,
    RunEvent,
    StepEvent,
    StopOrder,
    TrainOrder,
    WornEvent,
)
from kerasweep.jobs.settings import ARTIFACTS_URL
from kerasweep.jobs.trial import Answer
from kerasweep.workers.autoscale import StepCount
from kerasweep.workers.devices import DeviceSet
from kerasweep.workers.echo import Echo
from kerasweep.workers.guard import GUARDS, guarded

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 30.0
_LOOK_MS = 500
_EXIT_S = 10.0
_CHUNK_BYTES = 1 << 16
#: How long a trainer that is to be replaced may take to end.
_RETIRE_S = 20.0


@dataclass(frozen=True)
class Death:
    """How a trainer ended.

    Args:
        code: the exit code, or the negative signal number.
        killed_for: why we killed it; empty if we did not.
        culprit: the run for which it was killed; empty if none.
        by_kernel: whether the kernel killed it for lack of memory.
        unheard: whether the run never reached it, and so cannot be to blame.
        width: the number of its runs.
    """

    code: int
    killed_for: str
    culprit: str
    by_kernel: bool
    unheard: bool
    width: int


#: What a run's host receives; last the death of its trainer or an invalid message.
Heard = RunEvent | Death | PipeDefect


@dataclass
class Run:
    """An attempt inside a trainer: its events, and the time of its last step."""

    name: str
    events: queue.Queue[Heard] = field(default_factory=queue.Queue)
    last_sign: float = field(default_factory=time.monotonic)
    began: bool = False


class Trainer:
    """A trainer process that is restarted whenever it ends.

    Args:
        devices: its devices.
        artifacts_url: where it writes checkpoints and models.
        changed: called, from any thread, when it becomes ready or ends.
    """

    def __init__(self, devices: DeviceSet, artifacts_url: str, changed: Callable[[], None]) -> None:
        self.devices = devices
        self.ready = False
        #: Whether it was given GPUs and sees none.
        self.blind = False
        self.rss_bytes = 0
        self.steps = StepCount(0, 0.0)
        self.retiring = False
        self.leaving = False
        self.failed_starts = 0
        self._artifacts_url = artifacts_url
        self._changed = changed
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()
        self._outbox: queue.Queue[bytes | None] = queue.Queue()
        self._writer = PipeWriter()
        #: The guard if there is one; the trainer's own number arrives with its first message.
        self._process: subprocess.Popen[bytes] | None = None
        self._own_pid: int | None = None
        #: Why the current process was killed, and for which run.
        self._killed: tuple[str, str] = ("", "")
        self._last_sign = time.monotonic()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"trainer {devices.name}", daemon=True)

    @property
    def pid(self) -> int | None:
        """The id of the current process."""
        process = self._process
        return self._own_pid or (process.pid if process else None)

    @property
    def width(self) -> int:
        """The number of its current runs."""
        return len(self._runs)

    @property
    def cpu_s(self) -> float:
        """The processor time of the current process, in seconds."""
        pid = self.pid
        return cpu_seconds(pid) if pid else 0.0

    @property
    def available(self) -> bool:
        """Whether it accepts runs."""
        return self.ready and not self.retiring and not self.leaving

    def start(self) -> None:
        """Start the process; `ready` is set when TensorFlow is loaded."""
        self._keeper.start()

    def train(self, order: TrainOrder) -> Run:
        """Give it a run; the run's events end with an end event, a death or a defect."""
        run = Run(order.run)
        with self._lock:
            self._runs[order.run] = run
            alive = self.ready
        if alive:
            self._say(order)
        else:
            run.events.put(Death(0, "", "", by_kernel=False, unheard=True, width=1))
        return run

    def stop(self, name: str, why: str) -> None:
        """Ask it to end a run at its next step."""
        self._say(StopOrder(name, why))

    def tell(self, name: str, key: str, value: Any) -> None:
        """Answer a run's `DecisionEvent`."""
        self._say(DecidedOrder(name, key, value))

    def forget(self, name: str) -> None:
        """Drop a run that has ended."""
        with self._lock:
            self._runs.pop(name, None)

    def silent_s(self, run: Run) -> float:
        """Return the seconds without progress in the run, or in its trainer until the run starts."""
        last = run.last_sign if run.began else max(run.last_sign, self._last_sign)
        return time.monotonic() - last

    def kill(self, reason: str, culprit: str = "") -> None:
        """Kill the current process; its runs receive its death with the reason."""
        with self._lock:  # so that its keeper does not reap it and start the next one meanwhile
            process = self._process
            if process is not None:
                self._kill(process, reason, culprit)

    def _kill(self, process: subprocess.Popen[bytes], reason: str, culprit: str) -> None:
        if self._process is process and not _is_dead(process):
            self._killed = self._killed if self._killed[0] else (reason, culprit)
            # Its keeper reaps it. A guard also ends what the trainer has started.
            os.kill(process.pid, signal.SIGTERM if GUARDS else signal.SIGKILL)
            os.kill(process.pid, signal.SIGCONT)  # a job may have stopped its parent

    def retire(self) -> None:
        """Stop the process, which has no runs, so that a new one replaces it."""
        log.info("trainer %s uses %d MiB and is replaced", self.devices.name, self.rss_bytes >> 20)
        process = self._process
        self._say(ExitOrder())
        if process is not None:
            timer = threading.Timer(_RETIRE_S, self._end_retired, (process,))
            timer.daemon = True
            timer.start()

    def _end_retired(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._kill(process, "it did not stop when it was to be replaced", "")

    def ask_to_end(self) -> None:
        """Tell it to stop for good; while TensorFlow loads it would not notice, and has nothing to lose."""
        self._closing.set()
        self._say(ExitOrder())
        if not self.ready:
            self.kill("it has not started")

    def close(self, grace_s: float) -> None:
        """Stop it for good."""
        self.ask_to_end()
        self._keeper.join(grace_s)
        if self._keeper.is_alive():
            self.kill("it did not stop when asked")
            self._keeper.join(grace_s)

    def _say(self, order: Order) -> None:
        writer = self._writer
        with writer.lock:
            self._outbox.put(writer.line(order))

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                self._live()
            except Exception:
                # No memory for a process, or no descriptors left: this thread must survive that and retry.
                log.exception("trainer %s could not be started", self.devices.name)
                self.failed_starts += 1
            if not self._closing.is_set():
                self._closing.wait(min(0.25 * 2.0**self.failed_starts, _LONGEST_PAUSE_S))

    def _live(self) -> None:
        """Run the process once, from start to reaping."""
        child_in, to_child = os.pipe()
        from_child, child_out = os.pipe()
        with os.fdopen(from_child, "rb", buffering=0) as pipe, os.fdopen(to_child, "wb", buffering=0) as sink:
            kills, life, echo = KernelKills(), secrets.token_hex(8), Echo(self.devices.name)
            self._outbox, self._writer = queue.Queue(), PipeWriter()
            try:
                self._process = process = self._started(child_in, child_out, echo.descriptor, life)
            except BaseException:
                echo.discard()
                raise
            finally:
                os.close(child_in)
                os.close(child_out)
            echo.start()
            writer = threading.Thread(target=_write, args=(sink, self._outbox), daemon=True)
            writer.start()
            self._read(pipe.fileno(), process, kills)
            _end(process)
            end_life(life)
            echo.end()
            self._bury(process, kills.recent)
            self._outbox.put(None)
            writer.join()

    def _started(self, child_in: int, child_out: int, output: int, life: str) -> subprocess.Popen[bytes]:
        command, environ = guarded(self._command(child_in, child_out), {**self._environ(), LIFE: life})
        return subprocess.Popen(
            command,
            pass_fds=(child_in, child_out),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _read(self, descriptor: int, process: subprocess.Popen[bytes], kills: KernelKills) -> None:
        """Read from the process until its pipe closes or it dies: one of its children may hold the pipe."""
        poll, reader = select.poll(), PipeReader(EVENTS)
        poll.register(descriptor, select.POLLIN)
        while True:
            kills.look()
            if poll.poll(_LOOK_MS):
                data = os.read(descriptor, _CHUNK_BYTES)
                if not data:
                    return
                for event in reader.feed(data):
                    self._hear(event)
            elif _is_dead(process):
                return

    def _hear(self, event: Event | PipeDefect) -> None:
        self._last_sign = time.monotonic()
        if isinstance(event, ReadyEvent):
            self._begin(event)
            return
        if isinstance(event, WornEvent):
            self.retiring = True
            log.info("trainer %s will be replaced: %s", self.devices.name, event.why)
            return
        if isinstance(event, PipeDefect) and event.run is None:
            # It is unknown to which run it belonged, and a lost one would be waited for.
            log.error("trainer %s: %s", self.devices.name, event)
            self.kill(f"a bug in kerasweep: {event}")
            return
        with self._lock:
            run = self._runs.get(event.run or "")
        if isinstance(event, (StepEvent, DoneEvent, HeldEvent)):
            self.rss_bytes = event.rss_bytes
        if isinstance(event, StepEvent) and event.steps_in_all != self.steps.made:
            self.steps = StepCount(event.steps_in_all, self._last_sign)
        if run is None:
            self._dismiss(event)
            return
        run.last_sign, run.began = self._last_sign, True
        if not isinstance(event, StepEvent):
            run.events.put(event)

    def _begin(self, event: ReadyEvent) -> None:
        self.failed_starts, self._own_pid = 0, event.pid
        log.info("trainer %s is ready (pid %s)", self.devices.name, event.pid)
        self.blind = bool(self.devices.gpus) and not any("GPU" in device for device in event.devices)
        if self.blind:
            remedy = "is TensorFlow for CUDA installed (pip install 'kerasweep[cuda]')?"
            log.warning("trainer %s sees no GPU and trains on the CPU; %s", self.devices.name, remedy)
        self.ready = True
        self._changed()

    def _dismiss(self, event: RunEvent | PipeDefect) -> None:
        """Stop a run that nobody waits for any more."""
        if not isinstance(event, EndEvent) and event.run:
            self.stop(event.run, str(Answer.STALE))

    def _bury(self, process: subprocess.Popen[bytes], by_kernel: bool) -> None:
        with self._lock:
            code = process.wait()  # under the lock: from here on its number may belong to another process
            self._process = self._own_pid = None
            (killed_for, culprit), self._killed = self._killed, ("", "")
            self.failed_starts += 0 if self.ready else 1
            expected = self.retiring or self._closing.is_set()
            self.ready = self.retiring = False
            self.rss_bytes, self.steps = 0, StepCount(0, 0.0)
            runs, self._runs = list(self._runs.values()), {}
        if not expected:
            log.warning("trainer %s ended with code %d during %d runs", self.devices.name, code, len(runs))
        by_kernel = by_kernel and code == -signal.SIGKILL and not killed_for
        death = Death(code, killed_for, culprit, by_kernel, unheard=False, width=len(runs))
        for run in runs:
            run.events.put(death)
        self._changed()

    def _command(self, child_in: int, child_out: int) -> list[str]:
        parent = 0 if GUARDS else os.getpid()  # a guard ensures that the trainer ends with it
        pipes = ["--in-fd", str(child_in), "--out-fd", str(child_out), "--parent-pid", str(parent)]
        flags = ["--threads", str(self.devices.threads)]
        flags += ["--logical-cpus", str(self.devices.logical_cpus)] if self.devices.logical_cpus else []
        if "TMPDIR" in os.environ:  # the worker's own, which lasts as long as the worker
            flags += ["--folders", os.path.join(os.environ["TMPDIR"], "trials")]
        return [sys.executable, "-P", "-m", "kerasweep.workers.trainer.main", *pipes, *flags]

    def _environ(self) -> dict[str, str]:
        own = {
            ARTIFACTS_URL: self._artifacts_url,
            "CUDA_VISIBLE_DEVICES": ",".join(self.devices.gpus) or "-1",
        }
        return {**os.environ, **own, "KERAS_BACKEND": "tensorflow", "PYTHONUNBUFFERED": "1"}


def _write(pipe: IO[bytes], outbox: queue.Queue[bytes | None]) -> None:
    while (line := outbox.get()) is not None:
        try:
            pipe.write(line)
        except OSError:
            return


def _is_dead(process: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended, without consuming its exit code."""
    try:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # it has already been reaped
        return True
    return found is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child to end, and end everything it started; it is not reaped here."""
    deadline = time.monotonic() + _EXIT_S
    while not _is_dead(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # before it is reaped: the number is still its own

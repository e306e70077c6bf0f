"""The trainer's loop: an attempt in its own thread for each order."""

from __future__ import annotations

import gc
import logging
import os
import select
import threading
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

import keras
import tensorflow as tf

from kerasweep.jobs.errors import JobError, PipeDefect
from kerasweep.jobs.pipe import (
    DecidedOrder,
    ExitOrder,
    FailedEvent,
    Order,
    ReadyEvent,
    StopOrder,
    TrainOrder,
    WornEvent,
)
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.trial import Answer, FailureClass
from kerasweep.workers.trainer.assignment import Assignment, read_order
from kerasweep.workers.trainer.engine import Engine
from kerasweep.workers.trainer.fit import FitEngine
from kerasweep.workers.trainer.hardware import Devices
from kerasweep.workers.trainer.job import fixed_settings
from kerasweep.workers.trainer.job.loading import parse_one_at_a_time
from kerasweep.workers.trainer.job.prints import Prints
from kerasweep.workers.trainer.outbox import Outbox, StepPulse, read_orders
from kerasweep.workers.trainer.pack.company import Company
from kerasweep.workers.trainer.pack.decisions import Decisions
from kerasweep.workers.trainer.pack.pack_engine import PackEngine
from kerasweep.workers.trainer.pack.warm_up import warm_up
from kerasweep.workers.trainer.parking import Parking, Sleeper
from kerasweep.workers.trainer.prepare import Workshop
from kerasweep.workers.trainer.process import endings, own_logging
from kerasweep.workers.trainer.session import Equipment, Session
from kerasweep.workers.trainer.state.run import TrialRun

log = logging.getLogger(__name__)

_COLLECT_EVERY_S = 2.0
#: If no order arrives within this time from the start, there is time to warm up.
_NO_HURRY_S = 0.05
_LOOK_S = 0.2


def serve(
    in_fd: int, out_fd: int, artifacts_url: str, threads: int, logical_cpus: int, folders: Path
) -> None:
    """Train what the host orders, until it says `exit` or its pipe ends."""
    devices = Devices(threads, logical_cpus)
    fixed_settings.install()
    endings.install()
    parse_one_at_a_time()
    _keep_quiet()
    own_logging.install()
    outbox = Outbox(out_fd)
    outbox.send(ReadyEvent(os.getpid(), tuple(devices.names)))
    if not select.select([in_fd], [], [], _NO_HURRY_S)[0]:
        warm_up(devices.kind == "GPU")  # while the host gets ready to take hints
    decisions, company = Decisions(outbox), Company()
    choose = EngineChoice(FitEngine(), PackEngine(devices.kind == "GPU", decisions, company))
    artifacts = Artifacts(artifacts_url)
    # Objects loaded by now are permanent: the garbage collector need not scan them after every trial.
    gc.freeze()
    gc.enable()
    workshop = Workshop(devices, artifacts, folders, lambda why: outbox.send(WornEvent(why)))
    equipment = Equipment(outbox, artifacts, workshop, choose, company, Parking())
    sessions = Sessions(equipment, decisions)
    for order in read_orders(in_fd):
        if isinstance(order, ExitOrder):
            return
        if isinstance(order, PipeDefect) and order.run is None:
            log.error("an order from the host: %s", order)
            return  # its run is unknown: the host learns of it when this process ends
        sessions.handle(order)


def _keep_quiet() -> None:
    """Silence library warnings about how we call them, which would fill the logs of trials."""
    keras.utils.disable_interactive_logging()
    # Each trial's model is traced again, which TensorFlow takes for a mistake.
    tf.get_logger().setLevel(logging.ERROR)
    # Keras says this after each epoch of a dataset of unknown length.
    warnings.filterwarnings("ignore", message="Your input ran out of data")


class EngineChoice:
    """Finds the engine of a run, and says why: `pack` wherever possible, else `fit`.

    Args:
        fit: accepts any run.
        pack: accepts most.
    """

    def __init__(self, fit: FitEngine, pack: PackEngine) -> None:
        self._fit = fit
        self._pack = pack

    def __call__(self, run: TrialRun) -> tuple[Engine, str]:
        """Return the engine and the reason.

        Raises:
            JobError: the requested engine cannot train this run.
        """
        asked = run.order.engine
        if asked == "fit":
            return self._fit, "requested"
        refusal = self._pack.refuses(run)
        if refusal is None:
            return self._pack, "requested" if asked == "pack" else ""
        if asked == "pack":
            raise JobError(
                FailureClass.USER, f"the engine pack cannot train this trial: {refusal}; use engine auto"
            )
        return self._fit, f"not packed: {refusal}"


class Sessions:
    """The attempts in this process.

    Args:
        equipment: what they share.
        decisions: the decisions that bind their sweeps.
    """

    def __init__(self, equipment: Equipment, decisions: Decisions) -> None:
        self._equipment = equipment
        self._decisions = decisions
        self._prints = Prints()
        self._prints.install()
        self._live: dict[str, Sleeper] = {}
        #: The newest thread of each trial; it outlives its attempts, whose ends are told before it is over.
        self._threads: dict[tuple[str, int], threading.Thread] = {}
        self._collected_at_s = time.monotonic()
        self._lock = threading.Lock()

    def handle(self, order: Order | PipeDefect) -> None:
        """Carry out an order: start a run, stop one, or pass an answer on."""
        if isinstance(order, TrainOrder):
            self._start(order)
            return
        if isinstance(order, PipeDefect):
            self._refuse(str(order.run), order)
        with self._lock:
            session = self._live.get(getattr(order, "run", None) or "")
        if session is None:
            return
        if isinstance(order, DecidedOrder):
            self._decisions.hear(session.order.sweep, order.key, order.value)
        else:
            session.stop.ask(order.why if isinstance(order, StopOrder) else str(Answer.STALE))

    def _start(self, order: TrainOrder) -> None:
        try:
            assignment = read_order(order)
        except ValueError as exc:  # a sweep file of another version must not end the other runs
            self._refuse(order.run, exc)
            return
        parked = self._equipment.parking.take(assignment)
        if parked is not None and parked.is_meant_by(assignment):
            parked.session.stop.renew()
            self._enlist(assignment, parked.session)
            parked.wake(assignment)
            return
        if parked is not None:
            parked.wake(None)
        session = Session(self._equipment, assignment)
        self._enlist(assignment, session)
        trial = (assignment.sweep, assignment.trial)
        with self._lock:
            before = self._threads.get(trial)
            thread = threading.Thread(target=self._work, args=(session, before), name=order.run, daemon=True)
            self._threads[trial] = thread
        thread.start()

    def _enlist(self, assignment: Assignment, session: Sleeper) -> None:
        with self._lock:
            self._live[assignment.run] = session

    def _refuse(self, run: str, why: Exception) -> None:
        message = f"a bug in kerasweep: an order is invalid: {why}"
        self._equipment.outbox.send(FailedEvent(run, FailureClass.CRASH, message, "", 1))

    def _work(self, session: Session, before: threading.Thread | None) -> None:
        """Run a session in its thread.

        Args:
            session: the session.
            before: of the attempt before at the same trial, which may yet tidy the trial's folder.
        """
        if before is not None:
            self._see_off(before, session.order.run)
        try:
            with ExitStack() as visits, self._prints.into(session.printed):
                company = self._equipment.company
                session.work(
                    lambda: visits.enter_context(company.joined(session.order.sweep)),
                    lambda: self._tell_end(session),
                )
                session.printed.flush(partial=True)
        finally:
            self._tell_end(session)
            self._forget_thread(session.order)
        if not self._live and time.monotonic() - self._collected_at_s > _COLLECT_EVERY_S:
            # Models contain reference cycles: without this their memory is only freed when the garbage
            # collector runs.
            gc.collect()
            self._collected_at_s = time.monotonic()

    def _see_off(self, before: threading.Thread, run: str) -> None:
        pulse = StepPulse(self._equipment.outbox, run)
        while before.is_alive():
            before.join(_LOOK_S)
            pulse.beat(0)

    def _forget_thread(self, order: Assignment) -> None:
        with self._lock:
            if self._threads.get((order.sweep, order.trial)) is threading.current_thread():
                del self._threads[order.sweep, order.trial]

    def _tell_end(self, session: Session) -> None:
        end, session.end = session.end, None
        with self._lock:
            self._live.pop(session.order.run, None)
        if end is not None:
            self._equipment.outbox.send(end)

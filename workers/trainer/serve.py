"""The trainer's loop: an attempt in a thread of its own for each order."""

from __future__ import annotations

import gc
import logging
import os
import select
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.blame import translate
from kerasweep.workers.trainer.engine import Engine
from kerasweep.workers.trainer.fit import FitEngine
from kerasweep.workers.trainer.hardware import Devices, versions
from kerasweep.workers.trainer.job.prints import Prints, RunLog
from kerasweep.workers.trainer.order import read_order
from kerasweep.workers.trainer.outbox import Channel, read_messages
from kerasweep.workers.trainer.pack.company import Company
from kerasweep.workers.trainer.pack.decisions import Decisions
from kerasweep.workers.trainer.pack.pack_engine import PackEngine
from kerasweep.workers.trainer.pack.warm_up import warm_up
from kerasweep.workers.trainer.prepare import Workshop
from kerasweep.workers.trainer.session import Equipment, Session, failed
from kerasweep.workers.trainer.state.run import TrialRun

log = logging.getLogger(__name__)

_COLLECT_EVERY_S = 2.0
#: Where no order comes within so long of the start, there is time to warm up.
_NO_HURRY_S = 0.05


def serve(in_fd: int, out_fd: int, artifacts_url: str, threads: int, logical_cpus: int) -> None:
    """Train what the host orders, until it says `exit` or its pipe ends."""
    devices = Devices(threads, logical_cpus)
    _keep_quiet()
    channel = Channel(out_fd)
    channel.send("ready", pid=os.getpid(), devices=devices.names, versions=versions())
    if not select.select([in_fd], [], [], _NO_HURRY_S)[0]:
        warm_up(devices.kind == "GPU")  # while the host gets ready to take hints
    decisions, company = Decisions(channel), Company()
    choose = EngineChoice(FitEngine(), PackEngine(devices.kind == "GPU", decisions, company))
    artifacts = Artifacts(artifacts_url)
    trainer = Equipment(channel, artifacts, Workshop(devices, artifacts), choose)
    attempts = Sessions(trainer, decisions, company)
    # What is loaded by now stays: the collector need not look at it again after every trial.
    gc.collect()
    gc.freeze()
    for message in read_messages(in_fd):
        if message["op"] == "exit":
            return
        attempts.handle(message)


def _keep_quiet() -> None:
    """Turn off what libraries say of the way in which we call them: it would fill the logs of trials."""
    keras.utils.disable_interactive_logging()
    # Each trial's model is traced anew, which TensorFlow takes for a mistake.
    tf.get_logger().setLevel(logging.ERROR)
    # Keras says this after each epoch of a dataset that does not know its length.
    warnings.filterwarnings("ignore", message="Your input ran out of data")


class EngineChoice:
    """Finds the engine of a run, and says why: `pack` wherever it can, else `fit`.

    Args:
        fit: takes any run.
        pack: takes most.
    """

    def __init__(self, fit: FitEngine, pack: PackEngine) -> None:
        self._fit = fit
        self._pack = pack

    def __call__(self, run: TrialRun) -> tuple[Engine, str]:
        """Return the engine and the reason.

        Raises:
            JobError: the engine that is asked for cannot train this run.
        """
        asked = run.order.engine
        if asked == "fit":
            return self._fit, "asked for"
        refusal = self._pack.refuses(run)
        if refusal is None:
            return self._pack, "asked for" if asked == "pack" else "it can be packed"
        if asked == "pack":
            raise JobError(
                FailureClass.USER, f"the engine pack cannot train this trial: {refusal}; use the engine auto"
            )
        return self._fit, f"not packed: {refusal}"


class Sessions:
    """The attempts that this process is at.

    Args:
        trainer: what they share.
        decisions: what their sweeps are bound to.
        company: they join it.
    """

    def __init__(self, trainer: Equipment, decisions: Decisions, company: Company) -> None:
        self._trainer = trainer
        self._decisions = decisions
        self._company = company
        self._prints = Prints()
        self._prints.install()
        self._live: dict[str, Session] = {}
        self._collected_at_s = time.monotonic()
        self._lock = threading.Lock()

    def handle(self, message: dict[str, Any]) -> None:
        """Do what the host asks: start a run, or stop one."""
        if message["op"] == "train":
            self._start(message)
        elif message["op"] == "stop":
            with self._lock:
                attempt = self._live.get(message["run"])
            if attempt is not None:
                attempt.stop.ask(message["why"])
        elif message["op"] == "decided":
            with self._lock:
                attempt = self._live.get(message["run"])
            if attempt is not None:
                self._decisions.hear(attempt.order.sweep, message["key"], message["value"])
        else:
            log.warning("unknown message from the host: %s", message["op"])

    def _start(self, message: dict[str, Any]) -> None:
        try:
            order = read_order(message)
        except Exception as exc:  # noqa: BLE001 - a spec of another version must not end the other runs
            failure = translate(exc, Path(message.get("bundle", ".")))
            self._trainer.channel.send("failed", message["run"], **failed(failure))
            return
        printed = RunLog(lambda text: self._trainer.channel.send("log", order.run, text=text))
        attempt = Session(self._trainer, order, printed)
        with self._lock:
            self._live[attempt.order.run] = attempt
        threading.Thread(target=self._work, args=(attempt,), name=attempt.order.run, daemon=True).start()

    def _work(self, attempt: Session) -> None:
        run = attempt.order.run
        with self._company.joined(attempt.order.sweep), self._prints.into(attempt.printed):
            attempt.work()
        with self._lock:
            del self._live[run]
            idle = not self._live
        if idle and time.monotonic() - self._collected_at_s > _COLLECT_EVERY_S:
            # Models are cycles of references: without this their memory waits for the collector's own time.
            gc.collect()
            self._collected_at_s = time.monotonic()

"""One attempt from its order to its last event: trained, failed or released."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras.src.saving import saving_lib

from kerasweep.jobs.errors import Damaged, JobError, OutOfReach
from kerasweep.jobs.kernel import rss_bytes
from kerasweep.jobs.pipe import (
    CheckpointEvent,
    DoneEvent,
    EngineEvent,
    EpochEvent,
    FailedEvent,
    HeldEvent,
    LogEvent,
    NoteEvent,
    PhaseEvent,
    ReleasedEvent,
    RunEvent,
    WaitEvent,
)
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.assignment import Assignment
from kerasweep.workers.trainer.blame import translate
from kerasweep.workers.trainer.engine import Engine, HandedOver, Interrupted
from kerasweep.workers.trainer.hardware import versions
from kerasweep.workers.trainer.job.prints import RunLog
from kerasweep.workers.trainer.outbox import Outbox, StepPulse
from kerasweep.workers.trainer.pack.company import Company
from kerasweep.workers.trainer.parking import Parked, Parking
from kerasweep.workers.trainer.prepare import Workshop
from kerasweep.workers.trainer.room import is_refusal, with_room
from kerasweep.workers.trainer.state.checkpoint import Checkpoint
from kerasweep.workers.trainer.state.digest import digest
from kerasweep.workers.trainer.state.model_writing import loading_notes, write_model
from kerasweep.workers.trainer.state.run import STOP_WITHIN_S, TrialRun
from kerasweep.workers.trainer.state.stop_flag import StopFlag

#: How long a result waits for space or for unresponsive artifacts, and for artifacts that refuse.
_INSIST_S, _REFUSED_S = 600.0, 60.0
_PAUSE_S = 5.0
#: What a trial keeps in memory for each byte of its checkpoint: variables, best weights, gradients' slots.
_COPIES = 3

# Keras tries to remember which attributes it never saves, but looks for them under another name than it
# wrote: at every save it would build a layer, a metric and an optimizer to ask them.
saving_lib.get_attr_skipset = functools.cache(saving_lib.get_attr_skipset)


@dataclass(frozen=True)
class Equipment:
    """What every attempt of this process uses.

    Args:
        outbox: to the host.
        artifacts: the destination of checkpoints and models.
        workshop: creates runs.
        choose: finds the engine of a run, and says why.
        company: the trials that train here.
        parking: the trials that wait at a rung here.
    """

    outbox: Outbox
    artifacts: Artifacts
    workshop: Workshop
    choose: Callable[[TrialRun], tuple[Engine, str]]
    company: Company
    parking: Parking


class Session:
    """One attempt at a trial, in its own thread.

    Args:
        equipment: what sessions share.
        order: the host's order.
    """

    def __init__(self, equipment: Equipment, order: Assignment) -> None:
        self.order = order
        #: The job's output; it is sent before the event that ends the attempt.
        self.printed = RunLog(self._log)
        self.stop = StopFlag()
        self._equipment = equipment
        #: Its final event: sent once nothing of the trial is left here, since another attempt may follow at
        #: once.
        self.end: DoneEvent | HeldEvent | FailedEvent | None = None
        self._join: Callable[[], Callable[[], None]]
        self._tell_end: Callable[[], None]
        self._leave: Callable[[], None] = lambda: None
        self._saved: ArtifactRef | None = None
        self._unsaved = False
        self._snapshot: Checkpoint | None = None
        self._notes_told = 0
        self._saved_at_s = time.monotonic()

    def work(self, join: Callable[[], Callable[[], None]], tell_end: Callable[[], None]) -> None:
        """Train to an end, which is `end` unless the host already knows it. Never raises because of the job.

        Args:
            join: counts the trial in; what it returns is called before the host hears of the end and may send
                the next trial.
            tell_end: tells the host of an end before this returns.
        """
        self._join, self._tell_end = join, tell_end
        self._leave = join()
        try:
            self._train()
        except BaseException as exc:  # noqa: BLE001 - the job's code may raise anything, SystemExit among it
            self._fail(translate(exc, self.order.bundle))

    def _train(self) -> None:
        run = self._open()
        try:
            if not self._resume(run) and self.order.checkpoints:
                run.callbacks.close()
                run = self._open()  # a refused checkpoint may have left traces
            while self._goes_on(run):
                pass
        except Interrupted:
            self._release()  # before the callbacks publish their output: a preempted worker has little time
        finally:
            run.callbacks.close()

    def _open(self) -> TrialRun:
        pulse = StepPulse(self._equipment.outbox, self.order.run)
        run = self._equipment.workshop.open(self.order, self.stop, pulse)
        run.begin()
        return run

    def _goes_on(self, run: TrialRun) -> bool:
        """Train; return whether the run goes on, under another engine or in another attempt."""
        try:
            return self._train_run(run)
        except HandedOver:
            return True

    def _train_run(self, run: TrialRun) -> bool:
        """Train until the end or a rung; return whether another attempt continues the run from memory."""
        self._leave_if_asked()
        engine, reason = self._equipment.choose(run)
        self._send(EngineEvent(self.order.run, engine.name, reason))
        self._send(PhaseEvent(self.order.run, "compiling"))
        logs: dict[str, float] = {}
        with engine.admit(run):
            with keras.saving.custom_object_scope(run.source.custom_objects):
                run.notes.extend(note for note in loading_notes(run.model) if note not in run.notes)
            self._tell_notes(run)
            self._send(PhaseEvent(self.order.run, "training"))
            self._saved_at_s = time.monotonic()
            while not run.over and not self._at_rung(run):
                self._leave_if_asked(run)
                run.begin_epoch()
                found = engine.train_epoch(run)
                self._tell_notes(run)  # what the first trace revealed
                logs = run.end_epoch(found)
                self._after_epoch(run, logs)
        if run.over or self.order.ends:
            self._finish(run, logs, engine.name)
            return False
        self._hold(run, engine.name)
        return engine.name == "pack" and self._park(run)

    def _tell_notes(self, run: TrialRun) -> None:
        """Send the notes that the host has not received yet."""
        for note in run.notes[self._notes_told :]:
            self._send(NoteEvent(self.order.run, note))
        self._notes_told = len(run.notes)

    def _after_epoch(self, run: TrialRun, metrics: dict[str, float]) -> None:
        self._send(EpochEvent(self.order.run, run.epoch, metrics, round(run.seconds, 6)))
        diverged = run.diverged(metrics)
        if diverged is not None:
            raise JobError(
                FailureClass.DIVERGED,
                f"{diverged} must stay finite, got {metrics[diverged]} in epoch {run.epoch}; "
                "try a lower learning rate",
            )
        due = time.monotonic() - self._saved_at_s >= self.order.spec.checkpoints.every_s
        self._snapshot = run.take() if run.seconds > STOP_WITHIN_S or (due and not run.over) else None
        if due and not run.over and self._snapshot is not None:
            self._save(self._snapshot)

    def _leave_if_asked(self, run: TrialRun | None = None) -> None:
        if not self.stop.leaving:
            return
        if run is not None and not self.stop.at_once and run.epoch:
            self._snapshot = run.take()
        raise Interrupted

    def _release(self) -> None:
        if not self.stop.at_once and self._snapshot is not None:
            self._save(self._snapshot)
        self._send(ReleasedEvent(self.order.run, self.stop.why or "preempt", self._saved))

    def _fail(self, failure: JobError) -> None:
        if failure.cls is FailureClass.MEMORY:
            self._equipment.parking.clear()
        width = self._equipment.company.recent_width()
        self._send(FailedEvent(self.order.run, failure.cls, failure.message, failure.traceback, width))

    def _save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; if it cannot be written, training continues and the next one tries again."""
        epoch = checkpoint.manifest["epoch"]
        if self._saved is not None and self._saved.epoch == epoch:
            return
        try:
            key = self._key("checkpoint", epoch, "npz")
            sha256, size = self._equipment.artifacts.put(key, checkpoint.to_bytes())
        except OutOfReach as exc:
            self._log(f"no checkpoint after epoch {epoch}: {exc}")
            self._unsaved = True
            told = str(exc).splitlines()[0]
            self._send(WaitEvent(self.order.run, f"training continues without a new checkpoint: {told}"))
            return
        finally:
            self._saved_at_s = time.monotonic()
        self._saved = ArtifactRef("checkpoint", key, sha256, size, epoch)
        self._send(CheckpointEvent(self.order.run, self._saved))
        if self._unsaved:
            self._unsaved = False
            self._send(WaitEvent(self.order.run, ""))

    def _resume(self, run: TrialRun) -> bool:
        """Resume from the newest intact checkpoint, naming damaged ones; return whether there was one."""
        self._leave_if_asked()
        for ref in self.order.checkpoints:
            try:
                data = self._equipment.artifacts.get(ref.key, ref.sha256)
                run.put(Checkpoint.from_bytes(data))
            except (Damaged, ValueError, LookupError, TypeError) as exc:
                self._log(f"checkpoint of epoch {ref.epoch} refused, using the previous one: {exc}")
                continue
            self._saved = ArtifactRef("checkpoint", ref.key, ref.sha256, len(data), ref.epoch)
            return True
        if self.order.checkpoints:
            self._log(
                f"none of {len(self.order.checkpoints)} checkpoints could be used: "
                "the trial starts again from epoch 1"
            )
        return False

    def _finish(self, run: TrialRun, logs: dict[str, float], engine: str) -> None:
        if run.best.epoch == 0:
            metric = run.best.metric
            raise JobError(
                FailureClass.DIVERGED, f"{metric} must be finite in at least one epoch, and never was"
            )
        held = digest(run.model, run.captured()) if self.order.ends and not run.over else None
        if run.model.optimizer is not None:  # as `fit` does at its end: averaged weights are installed
            run.model.optimizer.finalize_variable_values(run.model.trainable_weights)
        run.callbacks.train_end(logs)
        reached = self._reached(run, engine)
        if held is not None:  # a trial that ends at a rung is the one that was held there
            reached["digest"] = held
        model = None if self._is_outdone(run) else self._save_model(run)
        self._send(DoneEvent(run=self.order.run, model=model, stopped_early=run.stopped_early, **reached))

    def _at_rung(self, run: TrialRun) -> bool:
        return self.order.rung is not None and run.epoch >= self.order.rung

    def _hold(self, run: TrialRun, engine: str) -> None:
        """Leave the slot with a checkpoint, from which the trial is resumed.

        Raises:
            JobError: it has no value to be compared by.
            OutOfReach: the artifacts did not respond, or the run was asked to leave meanwhile.
        """
        if run.best.epoch == 0:
            rule = f"{run.best.metric} must be finite in at least one epoch before a rung"
            raise JobError(FailureClass.DIVERGED, f"{rule}, and was not in epochs 1 to {run.epoch}")
        if self._saved is None or self._saved.epoch != run.epoch:
            checkpoint = run.take().to_bytes()
            key, artifacts = self._key("checkpoint", run.epoch, "npz"), self._equipment.artifacts
            written = self._insist(lambda: (key, *artifacts.put(key, checkpoint)), "its checkpoint")
            _, sha256, size = written
            self._saved = ArtifactRef("checkpoint", key, sha256, size, run.epoch)
        self.stop.held = True
        self._send(HeldEvent(run=self.order.run, checkpoint=self._saved, **self._reached(run, engine)))

    def _park(self, run: TrialRun) -> bool:
        """Wait at the rung in memory; return whether the next attempt continues from here."""
        workshop = self._equipment.workshop
        publishes = any(getattr(callback, "stateless", False) for callback in run.callbacks.all)
        if self._saved is None or publishes or not workshop.may_wait_in_memory(self.order):
            return False
        self.printed.flush(partial=True)
        parked = Parked(self, self._saved.sha256, _COPIES * self._saved.bytes)
        with workshop.left():
            self._leave()
            if not self._equipment.parking.put(parked):
                return False
            self._tell_end()
            order = parked.sleep()
        if order is None:
            return False
        self.order = run.order = order
        run.pulse = StepPulse(self._equipment.outbox, order.run)
        self._leave = self._join()
        return True

    def _reached(self, run: TrialRun, engine: str) -> dict[str, Any]:
        """Return a run's result, except for its model."""
        return {
            "digest": digest(run.model, run.captured()),
            "value": run.best.value,
            "best_epoch": run.best.epoch,
            "epochs": run.epoch,
            "metrics": run.best.metrics,
            "facts": {
                "device": self._equipment.workshop.devices.description,
                "versions": versions(),
                "engine": engine,
                "notes": run.notes,
            },
            "rss_bytes": rss_bytes(),
        }

    def _is_outdone(self, run: TrialRun) -> bool:
        """Whether so many trials are already better that the model would be discarded."""
        outdone = run.best.is_behind(self.order.bar)
        if outdone:
            best = self.order.spec.checkpoints.keep_top
            self._log(f"its model is not kept: only the best {best} trials' are (checkpoints.keep_top)")
        return outdone

    def _save_model(self, run: TrialRun) -> ArtifactRef:
        """Write the model as it was after its best epoch."""
        run.best.restore(run.model)
        key, artifacts = self._key("model", run.best.epoch, "keras"), self._equipment.artifacts

        def write(folder: Path) -> tuple[str, str, int]:
            with keras.saving.custom_object_scope(run.source.custom_objects):
                path = write_model(run.model, folder)
            written = key.removesuffix("keras") + path.name.removeprefix("model.")
            return (written, *artifacts.put_file(written, path))

        key, sha256, size = self._insist(lambda: with_room(artifacts, write))
        return ArtifactRef("model", key, sha256, size, run.best.epoch)

    def _insist(
        self, put: Callable[[], tuple[str, str, int]], what: str = "its model"
    ) -> tuple[str, str, int]:
        """Write, retrying for a while: a result is worth more than the time that it took.

        Raises:
            OutOfReach: there was no space, or the artifacts did not respond, or the run was asked to leave.
        """
        began_s, told = time.monotonic(), ""
        while True:
            try:
                return put()
            except OutOfReach as exc:
                patience_s = _REFUSED_S if is_refusal(exc) else _INSIST_S
                if self.stop.leaving or time.monotonic() - began_s > patience_s:
                    raise
                if str(exc) != told:
                    told = str(exc)
                    self._log(f"{what} is not saved yet: {told}")
                # Repeated each time: it shows that the run is alive.
                self._send(WaitEvent(self.order.run, f"{what} is not saved yet: {told.splitlines()[0]}"))
                time.sleep(_PAUSE_S)

    def _key(self, kind: str, epoch: int, suffix: str) -> str:
        order = self.order
        folder = f"sweeps/{order.sweep}/trials/{order.trial}/{order.attempt}"
        return f"{folder}/{kind}-{epoch}-{secrets.token_hex(4)}.{suffix}"

    def _log(self, text: str) -> None:
        self._send(LogEvent(self.order.run, text))

    def _send(self, event: RunEvent) -> None:
        if isinstance(event, (DoneEvent, HeldEvent, FailedEvent)):
            self.end = event
            return
        if isinstance(event, ReleasedEvent):  # at once: a preempted worker has little time
            self.printed.flush(partial=True)
            self._leave()
        self._equipment.outbox.send(event)

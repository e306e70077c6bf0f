"""One attempt from its order to its last event: trained, failed or released."""

from __future__ import annotations

import functools
import resource
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras.src.saving import saving_lib

from kerasweep.jobs.errors import Damaged, JobError, OutOfReach
from kerasweep.jobs.queue.hints import encode_metrics
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.blame import translate
from kerasweep.workers.trainer.engine import Engine, Interrupted
from kerasweep.workers.trainer.hardware import versions
from kerasweep.workers.trainer.job.prints import RunLog
from kerasweep.workers.trainer.order import Order
from kerasweep.workers.trainer.outbox import Channel, StepPulse
from kerasweep.workers.trainer.prepare import Workshop
from kerasweep.workers.trainer.state.checkpoint import Checkpoint
from kerasweep.workers.trainer.state.digest import digest
from kerasweep.workers.trainer.state.run import STOP_WITHIN_S, StopFlag, TrialRun

_INSIST_S = 60.0
_PAUSE_S = 5.0
_ENDS = ("done", "failed", "released")

# Keras means to remember which attributes it never saves, but looks for them under another name than it
# wrote: at every save it would build a layer, a metric and an optimizer to ask them.
saving_lib.get_attr_skipset = functools.cache(saving_lib.get_attr_skipset)


@dataclass(frozen=True)
class Equipment:
    """What every attempt of this process uses.

    Args:
        channel: to the host.
        artifacts: where checkpoints and models go.
        workshop: makes runs.
        choose: finds the engine of a run, and says why.
    """

    channel: Channel
    artifacts: Artifacts
    workshop: Workshop
    choose: Callable[[TrialRun], tuple[Engine, str]]


class Session:
    """One attempt at a trial, in a thread of its own.

    Args:
        trainer: what attempts share.
        order: what the host asked for.
        printed: what the job prints; it is sent before the event that ends the attempt.
    """

    def __init__(self, trainer: Equipment, order: Order, printed: RunLog) -> None:
        self.order = order
        self.printed = printed
        self.stop = StopFlag()
        self._trainer = trainer
        self._saved: ArtifactRef | None = None
        self._snapshot: Checkpoint | None = None
        self._saved_at_s = time.monotonic()

    def work(self) -> None:
        """Train, and tell the host how it ended. Never raises for the job's sake."""
        try:
            self._train()
        except Interrupted:
            self._release()
        except BaseException as exc:  # noqa: BLE001 - the job's code may raise anything, SystemExit among it
            self._send("failed", **failed(translate(exc, self.order.bundle)))

    def _train(self) -> None:
        run = self._trainer.workshop.open(
            self.order, self.stop, StepPulse(self._trainer.channel, self.order.run)
        )
        try:
            self._train_run(run)
        finally:
            run.callbacks.close()

    def _train_run(self, run: TrialRun) -> None:
        self._leave_if_asked()
        run.callbacks.train_begin()
        self._resume(run)
        engine, reason = self._trainer.choose(run)
        self._send("engine", engine=engine.name, reason=reason)
        logs: dict[str, float] = {}
        with engine.admit(run):
            for note in run.notes:
                self._log(f"note: {note}")
            self._saved_at_s = time.monotonic()
            while not run.over:
                self._leave_if_asked(run)
                run.begin_epoch()
                logs = run.end_epoch(engine.train_epoch(run))
                self._after_epoch(run, logs)
        self._finish(run, logs, engine.name)

    def _after_epoch(self, run: TrialRun, metrics: dict[str, float]) -> None:
        self._send("epoch", epoch=run.epoch, metrics=encode_metrics(metrics), seconds=round(run.seconds, 6))
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
        artifact = None if self._saved is None else self._saved.to_json()
        self._send("released", why=self.stop.why, artifact=artifact)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; where it cannot be written, training goes on and the next one tries again."""
        epoch = checkpoint.manifest["epoch"]
        if self._saved is not None and self._saved.epoch == epoch:
            return
        try:
            key = self._key("checkpoint", epoch, "npz")
            sha256, size = self._trainer.artifacts.put(key, checkpoint.to_bytes())
        except OutOfReach as exc:
            self._log(f"no checkpoint after epoch {epoch}: {exc}")
            return
        finally:
            self._saved_at_s = time.monotonic()
        self._saved = ArtifactRef("checkpoint", key, sha256, size, epoch)
        self._send("checkpoint", artifact=self._saved.to_json())

    def _resume(self, run: TrialRun) -> None:
        """Go on from the newest checkpoint that is whole; say so where one is not."""
        for ref in self.order.resume:
            try:
                data = self._trainer.artifacts.get(ref.key, ref.sha256)
                run.put(Checkpoint.from_bytes(data))
            except (Damaged, ValueError) as exc:
                self._log(f"checkpoint of epoch {ref.epoch} refused, the one before it is used: {exc}")
                continue
            self._saved = ArtifactRef("checkpoint", ref.key, ref.sha256, len(data), ref.epoch)
            return
        if self.order.resume:
            self._log(
                f"none of {len(self.order.resume)} checkpoints could be used: "
                "the trial starts again from epoch 1"
            )

    def _finish(self, run: TrialRun, logs: dict[str, float], engine: str) -> None:
        if run.model.optimizer is not None:  # as `fit` does at its end: averaged weights take their place
            run.model.optimizer.finalize_variable_values(run.model.trainable_weights)
        run.callbacks.train_end(logs)
        final = digest(run.model)
        models = [] if self._is_outdone(run) else [self._save_model(run)]
        self._send(
            "done",
            digest=final,
            value=run.best.value,
            best_epoch=run.best.epoch,
            epochs=run.epoch,
            metrics=encode_metrics(run.best.metrics),
            artifacts=[model.to_json() for model in models],
            device=self._trainer.workshop.devices.description,
            versions=versions(),
            engine=engine,
            notes=run.notes,
            stopped_early=run.stopped_early,
            rss_bytes=rss_bytes(),
        )

    def _is_outdone(self, run: TrialRun) -> bool:
        """Whether so many trials are better already that the model would be thrown away."""
        outdone = run.best.is_behind(self.order.bar)
        if outdone:
            best = self.order.spec.checkpoints.keep_top
            self._log(f"its model is not kept: only the best {best} trials' are (checkpoints.keep_top)")
        return outdone

    def _save_model(self, run: TrialRun) -> ArtifactRef:
        """Write the model as it was after its best epoch."""
        run.best.restore(run.model)
        key = self._key("model", run.best.epoch, "keras")
        with tempfile.TemporaryDirectory(prefix="kerasweep-") as folder:
            path = Path(folder) / "model.keras"
            with keras.saving.custom_object_scope(run.source.custom_objects):
                run.model.save(path)
            sha256, size = self._insist(lambda: self._trainer.artifacts.put_file(key, path))
        return ArtifactRef("model", key, sha256, size, run.best.epoch)

    def _insist(self, put: Callable[[], tuple[str, int]]) -> tuple[str, int]:
        """Write, trying again for a while: a result is worth more than the time that it took.

        Raises:
            OutOfReach: the artifacts did not answer, or the run was asked to leave meanwhile.
        """
        deadline_s = time.monotonic() + _INSIST_S
        while True:
            try:
                return put()
            except OutOfReach as exc:
                if self.stop.leaving or time.monotonic() > deadline_s:
                    raise
                self._log(f"the model is not saved yet: {exc}")
                time.sleep(_PAUSE_S)

    def _key(self, kind: str, epoch: int, suffix: str) -> str:
        order = self.order
        folder = f"sweeps/{order.sweep}/trials/{order.trial}/{order.attempt}"
        return f"{folder}/{kind}-{epoch}-{secrets.token_hex(4)}.{suffix}"

    def _log(self, text: str) -> None:
        self._send("log", text=text)

    def _send(self, event: str, **fields: Any) -> None:
        if event in _ENDS:
            self.printed.flush(partial=True)
        self._trainer.channel.send(event, self.order.run, **fields)


def failed(failure: JobError) -> dict[str, Any]:
    """Return the fields of a `failed` event."""
    return {"class": failure.cls, "message": failure.message, "traceback": failure.traceback}


def rss_bytes() -> int:
    """Return the memory that this process holds now, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

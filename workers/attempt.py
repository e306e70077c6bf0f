"""One attempt at a trial: hands it to a trainer, records what that reports, and ends it exactly once."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasweep.jobs.errors import Damaged, OutOfReach, PipeDefect, StaleAttempt
from kerasweep.jobs.pipe import (
    CheckpointEvent,
    DecisionEvent,
    DoneEvent,
    EngineEvent,
    EpochEvent,
    FailedEvent,
    HeldEvent,
    LogEvent,
    NoteEvent,
    PhaseEvent,
    ReleasedEvent,
    TrainOrder,
    WaitEvent,
)
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.models import Claim, EpochRecord, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Answer, Failure, FailureClass, TrialState
from kerasweep.workers.bundles import BundleShelf
from kerasweep.workers.host import Host
from kerasweep.workers.ledger import Ledger
from kerasweep.workers.slots import Slot
from kerasweep.workers.trainers import Death, Heard, Run

log = logging.getLogger(__name__)

_POLL_S = 1.0
#: How long a result waits for an unresponsive store; the fence decides whether it still counts.
_STORE_PATIENCE_S = 600.0
_STORE_PAUSE_S = 1.0
#: How long a trial that met a machine fault is held back before it is retried.
_SICK_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0

#: The reason to stop a run whose lease could not be renewed.
_LEASE = "lease"

#: The precedence of requests to a run; any other request ends it at once.
_URGENCY = {None: -1, "stop": 0, "pause": 1, "preempt": 1, _LEASE: 1}
_AT_ONCE = 2

Ending = Callable[[Progress], object]


class Attempt:
    """Trains a claimed trial to its end, whatever that is.

    Args:
        claim: the trial.
        slot: its slot in a trainer.
        host: the trainers.
        records: where the end is written.
        ledger: where the progress is written.
        settings: the hang limit and the grace period, in seconds.
        engine: auto, fit or pack.
    """

    def __init__(
        self,
        claim: Claim,
        slot: Slot,
        host: Host,
        records: Records,
        ledger: Ledger,
        settings: Settings,
        engine: str,
    ) -> None:
        self.claim, self.key, self.slot = claim, claim.key, slot
        self._host, self._records, self._ledger, self._settings = host, records, ledger, settings
        self._engine = engine
        #: What its trainer is doing for it, such as `compiling`; empty until reported.
        self.phase = ""
        self._asked: str | None = None
        self._heard_of: set[str] = set()
        self._running = False
        self._asking = threading.Lock()
        self._waking = threading.Event()

    def run(self, bundles: BundleShelf) -> None:
        """Train, and write the end to the records; a stale attempt writes nothing."""
        self._ledger.open(self.key, self._answered, self._unrenewed)
        try:
            ending = self._trained(bundles)
        finally:
            progress = self._ledger.close(self.key)
        self._write(ending, progress)

    def _trained(self, bundles: BundleShelf) -> Ending:
        try:
            return self._watched(self._begun(bundles.folder_of(self.claim.sweep.bundle)))
        except Damaged as exc:
            return self._failing(Failure(FailureClass.CRASH, str(exc)), 1)
        except (OutOfReach, OSError) as exc:
            return self._waiting(str(exc).splitlines()[0])
        finally:
            self.slot.trainer.forget(str(self.key))

    def ask(self, why: str) -> None:
        """Ask the trainer to end the run; the most urgent reason counts, the first among equals."""
        with self._asking:
            self._heard_of.add(why)
            if _URGENCY.get(why, _AT_ONCE) > _URGENCY.get(self._asked, _AT_ONCE):
                self._asked = why
                self._waking.set()
                if self._running:
                    self._tell_why(why)

    def _tell_why(self, why: str) -> None:
        # For the trainer, all reasons to leave are the same.
        self.slot.trainer.stop(str(self.key), "preempt" if why == _LEASE else why)

    def _begun(self, bundle: Path) -> Run:
        """Give the run to the trainer, and pass on requests made before."""
        run = self.slot.trainer.train(self._order(bundle))
        with self._asking:
            self._running = True
            if self._asked:
                self._tell_why(self._asked)
        if self._host.preempting:
            self.ask("preempt")
        return run

    def _watched(self, run: Run) -> Ending:
        """Handle what the run reports until it ends; kill the trainer if the run hangs."""
        while True:
            try:
                ending = self._heard(run.events.get(timeout=_POLL_S))
                if ending is not None:
                    return ending
            except queue.Empty:
                if self.slot.trainer.silent_s(run) > self._settings.hang_s:
                    self.slot.trainer.kill(f"no step for {self._settings.hang_s:g} s", run.name)

    def _answered(self, answer: Answer) -> None:
        if answer is Answer.STALE:
            log.warning(
                "attempt %s no longer holds its trial; it stops, and its results do not count", self.key
            )
        self.ask(str(answer))

    def _unrenewed(self) -> None:
        """Stop before the lease is over, with a checkpoint: the store may respond in time to accept it."""
        self.ask(_LEASE)

    def _order(self, bundle: Path) -> TrainOrder:
        claim = self.claim
        return TrainOrder(
            run=str(self.key),
            sweep=self.key.sweep,
            name=claim.sweep.name,
            trial=self.key.trial,
            attempt=self.key.attempt,
            seed=claim.seed,
            params=dict(claim.params),
            spec=claim.sweep.spec.model_dump(mode="json"),
            bundle=str(bundle),
            entry=claim.sweep.entry,
            checkpoints=claim.checkpoints,
            engine=self._engine if claim.sweep.engine == "auto" else claim.sweep.engine,
            decisions=dict(claim.decisions),
            bar=claim.bar,
            rung=claim.rung,
            ends=claim.ends,
        )

    def _heard(self, event: Heard) -> Ending | None:
        """Handle one event; return how the attempt ends, if the event says so."""
        match event:
            case DoneEvent():
                return self._finishing(event)
            case HeldEvent():
                return self._holding(event)
            case FailedEvent():
                return self._failed(event)
            case ReleasedEvent():
                return self._released(event)
            case Death():
                return self._bereaved(event)
            case PipeDefect():
                return self._misheard(event)
        self._note(event)
        return None

    def _note(self, event: Heard) -> None:
        match event:
            case EngineEvent():
                self._settle(event)
            case EpochEvent():
                self._ledger.write(self.key, epoch=EpochRecord(event.epoch, event.metrics, event.seconds))
            case CheckpointEvent():
                self._ledger.write(self.key, checkpoint=event.artifact)
            case LogEvent():
                self._ledger.write(self.key, log_line=event.text)
            case NoteEvent():
                self._ledger.write(self.key, log_line=f"note: {event.text}")
            case PhaseEvent():
                self.phase = event.phase
                if event.phase == "training":
                    self._host.begin(self.slot)
                self._ledger.tell_soon()
            case WaitEvent():
                self._tell_wait(event)
            case DecisionEvent():
                self._decide(event)

    def _tell_wait(self, event: WaitEvent) -> None:
        try:
            self._records.waits(self.key, event.text)
        except OutOfReach as exc:
            log.warning("attempt %s waits: %s; this could not be recorded: %s", self.key, event.text, exc)

    def _settle(self, event: EngineEvent) -> None:
        self._host.settle(self.slot, event.engine == "pack", self.claim.pack_limit)
        if event.reason:
            self._ledger.write(self.key, log_line=f"trained with {event.engine}: {event.reason}")

    def _decide(self, event: DecisionEvent) -> None:
        binding = self._insist(
            lambda: self._records.decide(self.key.sweep, event.key, event.value, event.reason)
        )
        self.slot.trainer.tell(str(self.key), event.key, binding)

    def _finishing(self, event: DoneEvent) -> Ending:
        cut_short = (Answer.STOP in self._heard_of or self.claim.ends) and event.stopped_early
        result = Result(
            state=TrialState.STOPPED if cut_short else TrialState.COMPLETED,
            value=event.value,
            best_epoch=event.best_epoch,
            epochs=event.epochs,
            metrics=event.metrics,
            digest=event.digest,
            model=event.model,
            facts={**event.facts, "code": self.claim.sweep.bundle.sha256},
        )
        return lambda progress: self._records.finish(self.key, result, progress)

    def _holding(self, event: HeldEvent) -> Ending:
        result = Result(
            state=TrialState.WAITING,
            value=event.value,
            best_epoch=event.best_epoch,
            epochs=event.epochs,
            metrics=event.metrics,
            digest=event.digest,
            facts={**event.facts, "code": self.claim.sweep.bundle.sha256},
        )
        return lambda progress: self._records.hold(self.key, result, event.checkpoint, progress)

    def _failed(self, event: FailedEvent) -> Ending:
        if event.traceback:
            self._ledger.write(self.key, log_line=event.traceback)
        if event.failure_class is FailureClass.STORE:
            return self._waiting(event.message)
        failure = Failure(event.failure_class, event.message)
        if failure.cls is FailureClass.MACHINE:
            return self._leaving_a_sick_trainer(failure)
        return self._failing(failure, event.width)

    def _released(self, event: ReleasedEvent) -> Ending:
        if event.artifact is not None:
            self._ledger.write(self.key, checkpoint=event.artifact)
        return self._releasing(event.why)

    def _misheard(self, defect: PipeDefect) -> Ending:
        """End an attempt after an invalid message: it is unknown what else was lost."""
        self.slot.trainer.stop(str(self.key), str(Answer.STALE))
        return self._failing(Failure(FailureClass.CRASH, f"a bug in kerasweep: {defect}"), 1)

    def _bereaved(self, death: Death) -> Ending:
        if self._asked == Answer.CANCEL:
            return self._releasing(str(Answer.CANCEL))
        if self._host.preempting:
            return self._releasing("preempt")
        if death.unheard or (death.culprit and death.culprit != str(self.key)):
            return self._releasing(
                "its trainer ended before the run started, or was killed for another trial"
            )
        cls = FailureClass.CRASH
        if death.culprit:
            cls = FailureClass.HANG
        elif death.by_kernel:
            cls = FailureClass.MEMORY
        how = death.killed_for or f"the trainer ended with {_described(death.code)}"
        return self._failing(Failure(cls, how), death.width)

    def _waiting(self, why: str) -> Ending:
        """Release the trial because something does not respond, with a delay so that it does not spin."""
        self.slot.trainer.stop(str(self.key), str(Answer.STALE))
        # Wait longer with each attempt: a refusal will hardly end at once.
        pause_s = self._settings.renew_s * (1.0 + 0.5 * (self.key.attempt - 1))
        self._waking.wait(min(pause_s, max(_LONGEST_PAUSE_S, self._settings.renew_s)))
        return self._failing(Failure(FailureClass.STORE, why), 1)

    def _leaving_a_sick_trainer(self, failure: Failure) -> Ending:
        """Release the trial after a machine fault; a new process may not have it."""
        self.slot.trainer.retiring = True
        self._waking.wait(min(_SICK_PAUSE_S * 2.0 ** min(self.key.attempt - 1, 10), _LONGEST_PAUSE_S))
        return self._failing(failure, 1)

    def _failing(self, failure: Failure, pack: int) -> Ending:
        return lambda progress: self._records.fail(self.key, failure, pack=pack, progress=progress)

    def _releasing(self, why: str) -> Ending:
        targets = {str(Answer.PAUSE): TrialState.PAUSED, str(Answer.CANCEL): TrialState.CANCELLED}
        if why == Answer.STALE:
            return lambda progress: None
        if self._asked == _LEASE:
            why = "the store did not respond, and the lease was about to end"
        return lambda progress: self._records.release(
            self.key, targets.get(why, TrialState.QUEUED), why, progress
        )

    def _write(self, ending: Ending, progress: Progress) -> None:
        try:
            self._insist(lambda: ending(progress))
        except StaleAttempt as exc:
            log.warning("%s; its end is not written", exc)
        except OutOfReach as exc:
            log.error(
                "the result of attempt %s is lost, and the trial will be trained again: %s", self.key, exc
            )

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Call the store, retrying while it does not respond.

        Raises:
            OutOfReach: it did not respond within ten minutes, or before this worker has to stop.
        """
        deadline = time.monotonic() + _STORE_PATIENCE_S
        while True:
            try:
                return call()
            except OutOfReach:
                if self._host.preempting or time.monotonic() > deadline:
                    raise
                time.sleep(_STORE_PAUSE_S)


def _described(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"

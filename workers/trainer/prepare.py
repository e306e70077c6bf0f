"""From an order to a run that is ready to train: the job's source, data, model and callbacks."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.random.seed_generator import global_seed_generator

from kerasweep.jobs.code.program import Program, check_taken
from kerasweep.jobs.errors import JobError
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.sweepfile.rules import RuleError
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.assignment import Assignment
from kerasweep.workers.trainer.engine import Interrupted
from kerasweep.workers.trainer.feed import check_sizes, steps_of
from kerasweep.workers.trainer.hardware import Devices, scope_of
from kerasweep.workers.trainer.job.callbacks import (
    TrialCallbacks,
    check_callbacks,
    declared_first,
    declared_last,
)
from kerasweep.workers.trainer.job.data import Arrays, DataCache, JobData, Loaded, Part, weighted
from kerasweep.workers.trainer.job.draws import OwnDraws
from kerasweep.workers.trainer.job.enclave import Enclave, current, show_environment
from kerasweep.workers.trainer.job.given import Arguments
from kerasweep.workers.trainer.job.loading import load_data, own_pools, reset_names
from kerasweep.workers.trainer.job.process_state import Namespaces, ProcessState, Turns
from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM, seed_everything
from kerasweep.workers.trainer.job.source import JobSource, JobText
from kerasweep.workers.trainer.job.working_folder import fill, leave_the_process_in, remove, work_in
from kerasweep.workers.trainer.outbox import StepPulse
from kerasweep.workers.trainer.process import endings, own_logging, own_streams
from kerasweep.workers.trainer.state.building import build
from kerasweep.workers.trainer.state.checkpoint import build_optimizer
from kerasweep.workers.trainer.state.run import TrialRun
from kerasweep.workers.trainer.state.stop_flag import StopFlag

_TEXTS_KEPT = 4
_WORN = "a job changed process-wide settings that cannot be restored"
_SHARED_FOLDER = (
    "note: this system has no per-thread working folders: relative paths refer to that of the trial "
    "that started last in this trainer\n"
)


class Workshop:
    """What the runs of a trainer share: devices, the texts of jobs, data.

    Args:
        devices: this trainer's.
        artifacts: beside which the curves for TensorBoard are written.
        folders: the parent of trials' working folders.
        tell_worn: tells the host why this process must be replaced.
    """

    def __init__(
        self, devices: Devices, artifacts: Artifacts, folders: Path, tell_worn: Callable[[str], None]
    ) -> None:
        self.devices = devices
        self._artifacts = artifacts
        self._folders = folders
        self._tell_worn = tell_worn
        self._data = DataCache()
        self._texts: OrderedDict[tuple[Path, str], JobText] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = Turns()
        self._state = ProcessState()

    def open(self, order: Assignment, stop: StopFlag, pulse: StepPulse) -> TrialRun:
        """Create the run of an order.

        Raises:
            JobError: the job returned what cannot be trained, or asks for more devices than there are.
            Interrupted: the run was asked to leave while it waited for its turn.
            Exception: whatever the job's own code raises.
        """
        strategy = self.devices.strategy(order.spec.resources.gpus)
        enclave = current() or Enclave()
        text = self._text(order)
        while True:
            self._take_turn(enclave, text, stop, pulse)
            folder = self._settle(enclave, order, stop)
            enclave.notes.clear()
            try:
                run = self._make(order, text, folder, strategy, stop, pulse)
            finally:
                alone = self._stays_alone(text)
            if alone:
                run.notes.extend(dict.fromkeys(enclave.notes))
                return run
            # Others train here that must not see what this job changes: try again when they are gone.
            run.callbacks.close()
            enclave.ends.close()

    def may_wait_in_memory(self, order: Assignment) -> bool:
        """Tell whether a trial may stay in this process while it waits at a rung.

        One whose job changes settings of the process may not: they would be restored meanwhile.
        """
        quiet = not self._text(order).is_loud and self._state.is_untouched
        return quiet and self.devices.kind == "CPU" and current() is not None

    @contextmanager
    def left(self) -> Iterator[None]:
        """Give up the calling trial's turn until the context ends."""
        enclave = current()
        if enclave is None:
            raise RuntimeError("only a trial's own thread may leave")
        with enclave.left():
            self._turns.leave()
            try:
                yield
            finally:
                self._turns.enter(False, lambda: None)

    def _take_turn(self, enclave: Enclave, text: JobText, stop: StopFlag, pulse: StepPulse) -> None:
        """Wait until the trial may enter, with the process as it was before any trial."""

        def wait() -> None:
            if stop.leaving:
                raise Interrupted
            pulse.beat(0)

        loud = text.is_loud
        self._turns.enter(loud, wait)
        enclave.ends.callback(self._turns.leave)
        self._state.put_back(quiet=enclave.alone)
        if loud:
            enclave.ends.callback(Namespaces().put_back)

        def put_back() -> None:
            if self._state.is_worn:
                self._tell_worn(_WORN)
            self._state.put_back(quiet=enclave.alone)

        enclave.ends.callback(put_back)

    def _stays_alone(self, text: JobText) -> bool:
        """Whether the trial may train with the settings that its job has made."""
        if self._state.is_worn:
            self._tell_worn(_WORN)
        if text.is_loud or not self._state.is_changed:
            return True
        text.is_loud = True
        return self._turns.stay_alone()

    def _make(
        self,
        order: Assignment,
        text: JobText,
        folder: Path,
        strategy: Any,
        stop: StopFlag,
        pulse: StepPulse,
    ) -> TrialRun:
        source, data = self._load(order, text, folder)
        training = order.training
        _check_batches(order, data.train)
        replicas = 1 if strategy is None else strategy.num_replicas_in_sync
        check_sizes(data.train, training, replicas)
        _check_taken(order, source.program)
        arguments = Arguments(source.program, order, folder, data)
        with PROCESS_RANDOM, scope_of(strategy):
            seed_everything(order.seed, source.draws_from_tensorflow)
            model = _build(
                source,
                arguments.of("build_model"),
                data,
                training,
            )
            own = []
            if source.has("callbacks"):
                own = check_callbacks(source.call("callbacks", arguments.of("callbacks", model)))
            ordered = [
                *declared_first(training, order.spec.metric),
                *own,
                *declared_last(training, order.spec.metric),
                *self._curves(order, training),
            ]
            draws = OwnDraws()
            callbacks = TrialCallbacks(
                ordered, model, training.epochs, draws, steps_of(data.train, training, replicas)
            )
            global_seed_generator()  # created here as `fit` would: a trace would draw its seed by chance
        train: Part = data.train
        if isinstance(train, Arrays):
            train = weighted(train, training.class_weight)
        return TrialRun(
            order, source, model, train, data.validation, callbacks, training, stop, pulse, draws, strategy
        )

    def _settle(self, enclave: Enclave, order: Assignment, stop: StopFlag) -> Path:
        """Give the trial its working folder, and the arguments and path of a program that runs there."""
        folder = self._folders / order.sweep / str(order.trial)
        fill(folder, order.bundle)
        enclave.ends.callback(lambda: None if stop.resumes else remove(folder))
        shared = self._folders / "jobs" / order.bundle.name
        fill(shared, order.bundle)
        leave_the_process_in(shared)
        enclave.ends.callback(os.chdir, shared)
        if not work_in(folder) and enclave.printed is not None:
            enclave.printed.write(_SHARED_FOLDER)
        enclave.become_program(folder / order.entry)
        own_logging.begin(enclave)
        show_environment(enclave)
        enclave.ends.callback(show_environment, None)
        enclave.ends.callback(enclave.forget_program)
        enclave.ends.callback(own_logging.end, enclave)
        enclave.ends.callback(own_streams.end, enclave)
        enclave.ends.callback(endings.run_endings, enclave)
        return folder

    def _load(self, order: Assignment, text: JobText, folder: Path) -> tuple[JobSource, JobData]:
        """Give the trial its own instance of the job's modules, and its data.

        Both run under the sweep's seed, one after the other as in a script: whichever trial comes first must
        see the same. The instance that loads the data for others too is the first trial's own.
        """
        arguments = Arguments(text.program, order, folder, None).of("load_data")
        key = _data_key(order, {name: value for name, value in arguments.items() if name != "trial"})
        sources: list[JobSource] = []

        def begin() -> JobSource:
            seed_everything(order.spec.seed & 0x7FFF_FFFF, text.draws_from_tensorflow)
            reset_names({})
            sources.append(JobSource(order.bundle, order.entry, folder, text))
            return sources[0]

        def load(shareable: bool = True) -> Loaded:
            with PROCESS_RANDOM:
                return load_data(begin(), arguments, shareable)

        with PROCESS_RANDOM, own_pools():
            if "trial" in arguments or self._data.is_unshared(key):
                loaded = load(shareable=False)
            else:
                loaded = self._data.get(key, load)
            if not sources:
                begin()
                reset_names(loaded.names)
            return sources[0], loaded.data

    def _text(self, order: Assignment) -> JobText:
        key = (order.bundle, order.entry)
        with self._lock:
            if key not in self._texts:
                self._texts[key] = JobText(order.bundle, order.entry)
                while len(self._texts) > _TEXTS_KEPT:
                    self._texts.popitem(last=False)
            self._texts.move_to_end(key)
            return self._texts[key]

    def _curves(self, order: Assignment, training: Training) -> list[keras.callbacks.Callback]:
        if training.tensorboard is None:
            return []
        # TensorBoard is loaded only if it is used: it takes longer than a small trial.
        from kerasweep.workers.trainer.job.boards import Board, Curves

        board = Board(self._artifacts, order.sweep, order.trial)
        return [Curves(board, order.params, training.tensorboard.histograms)]


def _check_batches(order: Assignment, train: Part) -> None:
    if not isinstance(train, Arrays) and "training.batch_size" in order.params:
        raise JobError(
            FailureClass.USER,
            "training.batch_size cuts arrays into batches and cannot be swept over a dataset, which comes in "
            "batches; sweep a parameter of load_data instead",
        )


def _check_taken(order: Assignment, program: Program) -> None:
    """Refuse a parameter that, once the job is loaded, turns out to be no argument of its functions."""
    try:
        for name in order.job_params:
            check_taken(name, program)
    except RuleError as breach:
        raise JobError(FailureClass.USER, f"{breach.rule}; {breach.remedy}") from breach


def _data_key(order: Assignment, arguments: Mapping[str, Any]) -> str:
    text = json.dumps(
        [str(order.bundle), order.entry, order.spec.seed, arguments], sort_keys=True, default=repr
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _build(source: JobSource, arguments: Mapping[str, Any], data: JobData, training: Training) -> keras.Model:
    """Build, compile and check the job's model; afterwards all of its own variables exist."""
    model = source.call("build_model", arguments)
    if not isinstance(model, keras.Model):
        raise JobError(
            FailureClass.USER,
            f"build_model must return a compiled keras.Model, got a {type(model).__name__}; return it",
        )
    if not model.compiled:
        raise JobError(
            FailureClass.USER,
            "build_model must return a compiled model, got one that is not; call model.compile",
        )
    if not model.built:
        build(model, data.train, data.validation, training)
    if tf.distribute.has_strategy():  # `fit` builds it before the callbacks begin; else in its first step
        build_optimizer(model)
    return model

"""One trial's whole training state, whichever engine trains it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
from keras.src.random.seed_generator import global_seed_generator as global_generator
from numpy.typing import NDArray

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.assignment import Assignment
from kerasweep.workers.trainer.feed import opened_sequence
from kerasweep.workers.trainer.graph.step_functions import (
    COMPILED,
    functions_of,
    leave_to_engine,
    make_functions,
    replaced,
)
from kerasweep.workers.trainer.job.callbacks import TrialCallbacks, expect_number, not_reported
from kerasweep.workers.trainer.job.data import Part, Stream
from kerasweep.workers.trainer.job.draws import OwnDraws
from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM
from kerasweep.workers.trainer.job.source import JobSource
from kerasweep.workers.trainer.outbox import StepPulse
from kerasweep.workers.trainer.sequences import PyDatasetFeed
from kerasweep.workers.trainer.state.attributes import OwnAttributes
from kerasweep.workers.trainer.state.best import BestSoFar
from kerasweep.workers.trainer.state.building import step_specs
from kerasweep.workers.trainer.state.captures import (
    Pipelines,
    StepState,
    describe_handle,
    pair_handles,
    read_handle,
    write_handle,
)
from kerasweep.workers.trainer.state.checkpoint import (
    Checkpoint,
    build_optimizer,
    match_variables,
    reset_compiled_metrics,
    take_variables,
)
from kerasweep.workers.trainer.state.digest import optimizers_of
from kerasweep.workers.trainer.state.files import TOO_LARGE, TrialFiles
from kerasweep.workers.trainer.state.holders import holders_of
from kerasweep.workers.trainer.state.logged import as_number, flat_logs
from kerasweep.workers.trainer.state.program_objects import (
    ProgramObjects,
    restore_modules,
    save_modules,
)
from kerasweep.workers.trainer.state.state_reader import StateReader
from kerasweep.workers.trainer.state.state_writer import StateWriter
from kerasweep.workers.trainer.state.stop_flag import StopFlag

#: How long a stop waits for the end of the epoch; longer epochs are left midway.
STOP_WITHIN_S = 5.0
#: A note.
TRACED_AGAIN = (
    "a callback compiled the model again or forced a new train or test function, which no checkpoint holds: "
    "a resumed trial is trained again from its last checkpoint before that, or from the beginning"
)


@dataclass(eq=False)
class TrialRun:
    """A trial in training.

    Args:
        order: the host's order.
        source: the job.
        model: built and compiled; `begin` builds its optimizer.
        train: training data, with class weights applied.
        validation: validation data, or None.
        callbacks: the trial's.
        training: the training block with the trial's values.
        stop: whether to stop.
        pulse: tells the host about steps.
        draws: the trial's own states of the process's random generators.
        strategy: the distribution strategy for two or more replicas, else None.
        epoch: epochs trained.
        notes: what the user should know about how it is trained.
        seconds: duration of the last epoch; 0 before the first of this process.
        prepared: what its engine has made for it.
        sequence: of the training data, if they are a `PyDataset`.
    """

    order: Assignment
    source: JobSource
    model: keras.Model
    train: Part
    validation: Part | None
    callbacks: TrialCallbacks
    training: Training
    stop: StopFlag
    pulse: StepPulse
    draws: OwnDraws
    strategy: Any | None = None
    epoch: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    best: BestSoFar = field(init=False)
    steps: StepState = field(default_factory=StepState, init=False)
    pipelines: Pipelines = field(init=False)
    attributes: OwnAttributes | None = field(default=None, init=False)
    objects: ProgramObjects | None = field(default=None, init=False)
    files: TrialFiles = field(init=False)
    traced_again: bool = field(default=False, init=False)  # because of a callback
    prepared: Any = field(default=None, init=False)
    sequence: PyDatasetFeed | None = field(default=None, init=False)
    _begun: bool = field(default=False, init=False)  # the next epoch
    _started_at_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        metric = self.order.spec.metric
        self.best = BestSoFar(metric.name, metric.goal == "maximize")
        streams = [part for part in (self.train, self.validation) if isinstance(part, Stream)]
        self.pipelines = Pipelines([part.dataset for part in streams])
        self.files = TrialFiles(self.source.place, self.order.bundle)
        # Without code of the job's between the steps nothing changes them.
        if self.callbacks.run_job_code or self.model.run_eagerly or streams:
            holders = holders_of(self.source.modules, self.callbacks.all)
            self.attributes = OwnAttributes(self.model, holders)
            self.objects = ProgramObjects(holders, self.callbacks.all, self._known)

    @property
    def _streams(self) -> list[Stream]:
        """The stateful parts of the data."""
        parts = (self.train, self.validation)
        return [part for part in parts if isinstance(part, Stream) and part.keeps_state]

    @property
    def replicas(self) -> int:
        """The number of devices that it trains on."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    @property
    def over(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or a callback or the scheduler stopped."""
        if self.epoch and self.stop.ending:
            return True
        return self.epoch >= int(self.training.epochs) or bool(getattr(self.model, "stop_training", False))

    @property
    def stopped_early(self) -> bool:
        """Whether the training ended before its last epoch."""
        return self.epoch < int(self.training.epochs)

    def must_leave(self) -> bool:
        """Whether to leave the epoch midway: for an engine, between two steps."""
        if not self.stop.leaving:
            return False
        now_s = time.monotonic()
        late = self.stop.at_once or now_s - self.stop.asked_at_s > STOP_WITHIN_S
        return late or self.seconds - (now_s - self._started_at_s) > STOP_WITHIN_S

    def begin(self) -> None:
        """Begin the training. What a callback compiles here, it compiles in every attempt.

        The optimizer is built afterwards: callbacks that save the weights here save no slots, as in `fit`.
        """
        if isinstance(self.train, Stream) and self.train.keeps_state:
            with self.draws.own():
                self.sequence = opened_sequence(self.train, self.training, self.order.seed)
        with self.hooks(tested=False):
            self.callbacks.train_begin()
        self.traced_again = False
        build_optimizer(self.model)
        if self.objects is not None:
            self.objects.begin()

    def begin_epoch(self) -> None:
        """Begin the next epoch, unless it has begun under another engine."""
        self.start_clock()
        if not self._begun:
            with self.hooks(tested=self.epoch > 0):
                self.callbacks.epoch_begin(self.epoch + 1)
            self._tell_of_traces()
        self._begun = True

    @contextmanager
    def hooks(self, tested: bool, within_epoch: bool = False) -> Iterator[None]:
        """Let hooks of callbacks run; steps for which they have Keras make new functions are traced anew.

        Args:
            tested: whether `fit` has evaluated the model by now.
            within_epoch: whether `fit` will call the new functions itself.
        """
        if not within_epoch:
            with self.steps.listening(self.model, self.tracing):
                make_functions(self.model, tested and self.validation is not None)
        before = functions_of(self.model)
        yield
        steps = replaced(self.model, before)
        if not steps:
            return
        self.prepared, self.traced_again = None, True
        if COMPILED in steps:
            build_optimizer(self.model)
            self.steps.forget_traces()
        for traced in (self.draws, self.attributes):
            if traced is not None:
                traced.forget_traces(steps)
        if not within_epoch:
            leave_to_engine(self.model, steps)

    def _tell_of_traces(self) -> None:
        if self.traced_again and TRACED_AGAIN not in self.notes:
            self.notes.append(TRACED_AGAIN)

    def start_clock(self) -> None:
        """Count the epoch's time from now on."""
        self._started_at_s = time.monotonic()

    @contextmanager
    def tracing(self, *steps: str) -> Iterator[None]:
        """Let a trace of steps find the numbers and attributes that their first trace found.

        Args:
            steps: `train_step`, `test_step` or both.
        """
        if self.strategy is not None:  # which traces each replica in a thread of its own
            yield
            return
        attributes = nullcontext() if self.attributes is None else self.attributes.tracing(*steps)
        with self.draws.tracing(steps[0]), attributes:
            yield

    def end_epoch(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """End the epoch: callbacks, the best so far.

        Args:
            logs: what the engine returned.

        Returns:
            The epoch's metrics, including those added by callbacks.

        Raises:
            JobError: the model does not report the sweep's metric.
        """
        reported = {
            name: value if (plain := as_number(value)) is None else plain for name, value in flat_logs(logs)
        }
        with self.hooks(tested=True):
            shared = self.callbacks.epoch_end(self.epoch + 1, reported)
        self._tell_of_traces()
        metrics = {name: plain for name, value in shared.items() if (plain := as_number(value)) is not None}
        self.epoch, self._begun = self.epoch + 1, False
        self.seconds = time.monotonic() - self._started_at_s
        if self.best.metric in shared:
            expect_number("metric.name", self.best.metric, shared[self.best.metric])
        if self.best.metric not in metrics:
            raise JobError(FailureClass.USER, not_reported("metric.name", self.best.metric, metrics))
        if math.isfinite(metrics[self.best.metric]):
            self.best.observe(self.epoch, metrics, self.model)
        return metrics

    def diverged(self, metrics: Mapping[str, float]) -> str | None:
        """Return the name of the metric that shows divergence, if any."""
        return "loss" if not math.isfinite(metrics.get("loss", 0.0)) else None

    def take(self) -> Checkpoint:
        """Capture the whole state; only between two epochs."""
        names, arrays = take_variables(self.model)
        owners = {} if self.objects is None else self.objects.names
        writer = StateWriter(self._known(), self.source.place, owners)
        writer.arrays = arrays
        best = {name: writer.value(value) for name, value in vars(self.best).items()}
        callbacks = [
            {"type": type(callback).__name__, "state": _state_of(callback, writer)}
            for callback in self.callbacks.all
        ]
        manifest = {
            "trial": [self.order.sweep, self.order.trial],
            "epoch": self.epoch,
            "compiled_again": self.traced_again,
            "stop_training": bool(getattr(self.model, "stop_training", False)),
            "variables": names,
            "best": best,
            "callbacks": callbacks,
            "datasets": [writer.attributes(part.dataset, part.unchanged()) for part in self._streams],
            "captured": _values_of(self.steps.beyond(self.model), writer),
            "pipelines": _values_of(self.pipelines.handles, writer),
            "global_generator": writer.array(global_generator().state.numpy()),
            "modules": save_modules(self.source.modules, writer),
            "draws": writer.value(self.draws.saved()),
            "files": self._saved_files(writer),
            "attributes": writer.value(self.attributes.saved() if self.attributes else {}),
            "objects": self._saved_objects(writer),
        }
        return Checkpoint(manifest, writer.arrays)

    def put(self, checkpoint: Checkpoint) -> None:
        """Resume from a saved state, of this process or another; everything is validated before anything is
        assigned.

        Raises:
            Damaged: it belongs to another trial, or to another version of the job.
            ValueError, LookupError, TypeError: the callbacks differ, or the content is malformed.
        """
        manifest, arrays = checkpoint.manifest, checkpoint.arrays
        self._expect(manifest)
        owners = {} if self.objects is None else self.objects.owners
        reader = StateReader(arrays, self._known(), self.source.place, owners)
        self.draws.restore(reader.value(manifest["draws"]))
        if self.attributes is not None:
            self.attributes.restore(reader.value(manifest["attributes"]))
        if manifest["captured"]:
            self._trace()
        captured = pair_handles(self.steps.beyond(self.model), manifest["captured"], arrays)
        captured += pair_handles(self.pipelines.handles, manifest["pipelines"], arrays)
        generator = arrays[manifest["global_generator"]["array"]]
        variables = match_variables(self.model, manifest["variables"], arrays)
        variables.append((global_generator().state, generator))
        for callback, content in zip(self.callbacks.all, manifest["callbacks"], strict=True):
            reader.attributes(callback, content["state"])
        for part, state in zip(self._streams, manifest["datasets"], strict=True):
            reader.attributes(part.dataset, state)
        restore_modules(self.source.modules, manifest["modules"], reader)
        if self.objects is not None:
            self.objects.restore(manifest.get("objects", {}), reader)
        reader.attributes(self.best, manifest["best"])
        stop_training, epoch = bool(manifest["stop_training"]), int(manifest["epoch"])
        for variable, value in variables:
            variable.assign(value)
        for handle, value in captured:
            write_handle(handle, value)
        reader.apply()
        reset_compiled_metrics(self.model)
        if manifest["files"] is not None:
            contents = {name: arrays[content["array"]] for name, content in manifest["files"].items()}
            self.files.restore(contents, self.callbacks.all)
            self.callbacks.continue_logs()
        self.model.stop_training, self.epoch = stop_training, epoch

    def _expect(self, manifest: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that this run cannot resume from."""
        if manifest["trial"] != [self.order.sweep, self.order.trial]:
            raise ValueError(f"the checkpoint belongs to trial {manifest['trial']}")
        if manifest.get("compiled_again"):
            raise ValueError("a callback had the model's steps traced again, which the job has to repeat")
        found = [type(callback).__name__ for callback in self.callbacks.all]
        if found != [content["type"] for content in manifest["callbacks"]]:
            raise ValueError("the checkpoint has other callbacks than the job")

    def _saved_files(self, writer: StateWriter) -> dict[str, Any] | None:
        found = self.files.take()
        if found is None:
            if TOO_LARGE not in self.notes:
                self.notes.append(TOO_LARGE)
            return None
        return {name: writer.array(content) for name, content in found.items()}

    def _saved_objects(self, writer: StateWriter) -> dict[str, Any]:
        if self.objects is None:
            return {}
        found, unsaved = self.objects.save(writer)
        for place in unsaved:
            note = (
                f"{place} changes during the training, and no checkpoint can hold it: where results depend "
                "on it, a resumed trial may end with different bits"
            )
            if note not in self.notes:
                self.notes.append(note)
        return found

    def _known(self) -> frozenset[int]:
        """Return the ids of the variables that a checkpoint has as the model's and its optimizers'."""
        variables = list(self.model.variables)
        for optimizer in optimizers_of(self.model):
            variables.extend(optimizer.variables)
        return frozenset(id(one) for variable in variables for one in (variable, variable.value))

    def captured(self) -> list[NDArray[Any]]:
        """Return the values of what the steps capture beyond the model's own variables, in order."""
        return [read_handle(handle) for handle in self.steps.beyond(self.model)]

    def _trace(self) -> None:
        """Find out what the steps capture, before a callback may read any of it."""
        specs = step_specs(self.train, self.validation, self.training)
        with PROCESS_RANDOM:
            self.steps.trace(self.model, specs, self.strategy, self.tracing)


def _values_of(handles: Sequence[Any], writer: StateWriter) -> list[dict[str, Any]]:
    return [{"is": describe_handle(handle), **writer.array(read_handle(handle))} for handle in handles]


def _state_of(callback: keras.callbacks.Callback, writer: StateWriter) -> dict[str, Any]:
    return {} if getattr(callback, "stateless", False) else writer.attributes(callback)

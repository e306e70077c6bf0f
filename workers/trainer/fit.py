"""The `fit` engine: `model.fit`, epoch by epoch, one trial at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from kerasweep.workers.trainer.engine import Interrupted
from kerasweep.workers.trainer.feed import ArrayFeed, DatasetFeed, Feed, train_feed, validation_feed
from kerasweep.workers.trainer.graph.fingerprint import unkept_note
from kerasweep.workers.trainer.graph.step_functions import leave_to_engine
from kerasweep.workers.trainer.hardware import scope_of
from kerasweep.workers.trainer.job.callbacks import TrialCallbackList
from kerasweep.workers.trainer.job.data import Arrays, Stream
from kerasweep.workers.trainer.job.seeding import reset_kernels
from kerasweep.workers.trainer.state.run import TrialRun

_WAIT_S = 0.2


class FitEngine:
    """Trains with `model.fit`."""

    name = "fit"

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._train: Feed
        self._validation: Feed | None

    @contextmanager
    def admit(self, run: TrialRun) -> Iterator[None]:
        """Wait until no other trial trains here; then give the run its feeds."""
        while not self._turn.acquire(timeout=_WAIT_S):
            _wait(run)  # a waiting run is not stuck: the one it waits for is watched separately
        try:
            self._open(run)
            run.notes.extend(self._notes(run))
            yield
        finally:
            self._train = self._validation = None  # type: ignore[assignment]
            self._turn.release()

    def _open(self, run: TrialRun) -> None:
        replicas = run.replicas
        counting = partial(_wait, run)
        self._train = run.sequence or train_feed(run.train, run.training, run.order.seed, replicas, counting)
        self._validation = None
        if run.validation is not None:
            self._validation = validation_feed(run.validation, run.training, replicas, counting)
            with run.pipelines.rewound():
                self._validation.skip(run.epoch)
        with run.pipelines.rewound(keep=bool(run.training.steps_per_epoch)):
            self._train.skip(run.epoch)
        if isinstance(self._train, DatasetFeed) and run.strategy is not None:
            _build_at_once(run, self._train.sample())
        run.model._initial_epoch = None  # BackupAndRestore sets it, and `fit` adds it to every call
        if run.training.xla is True and run.strategy is None:
            # Keras' own setter disables it again wherever results must be reproducible, whatever the model.
            run.model._jit_compile = True
            leave_to_engine(run.model, ["train_step", "test_step"])  # made without it
        if run.source.draws_from_tensorflow:
            reset_kernels()

    def _notes(self, run: TrialRun) -> list[str]:
        """Return notes on dropped rows, and on what a resumed trial would not reproduce."""
        found = []
        for feed, part in ((self._train, run.train), (self._validation, run.validation)):
            if isinstance(feed, ArrayFeed) and isinstance(part, Arrays) and feed.rows < part.rows:
                what = "training" if part is run.train else "validation"
                found.append(
                    f"{part.rows - feed.rows} of {part.rows} {what} rows are dropped in each epoch: "
                    f"they do not fill {run.replicas} replicas evenly"
                )
            if isinstance(feed, DatasetFeed) and feed.counted:
                found.append(
                    "a dataset of unknown length was read once before the training, to count its "
                    "batches, so one that is shuffled anew for each epoch begins with the second order; "
                    "tf.data.experimental.assert_cardinality declares the length, and nothing is read"
                )
        found.extend(_of_the_model(run.model))
        found.extend(note for part in (run.train, run.validation) if (note := _by_the_side(part)))
        if run.source.draws_from_tensorflow:
            found.append(
                "the job uses random operations of TensorFlow's own: a resumed trial may draw different "
                "numbers there; those of keras.random it would draw again"
            )
        return list(dict.fromkeys(found))  # both parts of the data may give the same one

    def train_epoch(self, run: TrialRun) -> dict[str, float]:
        """Train one epoch with `model.fit`, and validate."""
        hooks = StepHooks(run)
        epoch = run.epoch + 1
        with (
            _drawing(run, hooks),
            scope_of(run.strategy),
            _unfinished(run.model.optimizer),
            run.steps.listening(run.model, run.tracing),
        ):
            run.model.fit(
                self._train.batches(epoch),
                validation_data=self._validation and self._validation.batches(epoch),
                initial_epoch=run.epoch,
                epochs=epoch,
                shuffle=False,
                verbose=0,
                callbacks=hooks,
                **_limits(run),
            )
        if run.steps.unkept and (note := unkept_note(sorted(run.steps.unkept))) not in run.notes:
            run.notes.append(note)
        return hooks.logs


def _of_the_model(model: keras.Model) -> Iterator[str]:
    """Yield notes on a model that runs eagerly, or that replaces Keras' `fit`."""
    if model.run_eagerly:
        yield (
            "the model runs eagerly, so state of its steps beyond its own variables and those of its "
            "optimizers cannot be seen: with such state, a resumed trial may end with other bits; "
            "compile it without run_eagerly"
        )
    if getattr(model.fit, "__func__", None) is not keras.Model.fit:
        yield (
            "the model has a fit of its own, which is called anew for each epoch, with batches: what it "
            "does besides Keras' fit belongs in build_model (which may take `data`) or in a callback"
        )


def _by_the_side(part: Any) -> str | None:
    """Return a note on a PyDataset whose batches are made by several workers."""
    workers = getattr(getattr(part, "dataset", None), "workers", 1)
    if workers < 2:
        return None
    return (
        f"a PyDataset makes its batches in {workers} workers: where __getitem__ draws numbers or changes "
        "attributes, a trial does not repeat; seed a generator by the index, or set workers=1"
    )


def _wait(run: TrialRun) -> None:
    """Show progress to the host, and allow stopping, between two epochs."""
    if run.stop.leaving:
        raise Interrupted
    run.pulse.beat(0)


def _drawing(run: TrialRun, hooks: StepHooks) -> AbstractContextManager[None]:
    """Let the job's code within the steps draw from its own generators; traces do so by themselves."""
    streams = isinstance(run.train, Stream) or isinstance(run.validation, Stream)
    eager = run.model.run_eagerly or tf.config.functions_run_eagerly()
    throughout = hooks.job_code or streams or eager or run.strategy is not None
    return run.draws.own() if throughout else nullcontext()


@contextmanager
def _unfinished(optimizer: Any) -> Iterator[None]:
    """Keep the end of an epoch's `fit` from installing averaged weights: the training continues."""
    if optimizer is None:
        yield
        return
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values


def _build_at_once(run: TrialRun, batch: Any) -> None:
    """Build what `fit` builds on several devices before each epoch, from a batch that it would consume."""
    with scope_of(run.strategy):
        run.model._symbolic_build(data_batch=batch)
    run.model._maybe_symbolic_build = lambda **_: None


class StepHooks(TrialCallbackList):
    """Replaces the list of callbacks within one epoch's `fit`.

    It forwards what happens within the epoch; the run itself reports the beginnings and ends of epochs and of
    the training. `logs` is what `fit` reports at the end of the epoch.
    """

    def __init__(self, run: TrialRun) -> None:
        super().__init__(run.callbacks.in_steps)
        self.logs: dict[str, float] = {}
        self._run = run
        self._stop_training = bool(getattr(run.model, "stop_training", False))

    @property
    def job_code(self) -> bool:
        """Whether callbacks run within the epoch."""
        return bool(self.callbacks)

    def on_train_begin(self, logs: Any = None) -> None:
        # `fit` has just cleared it; a callback may have set it at the start of the epoch.
        self._run.model.stop_training = self._stop_training

    def on_train_end(self, logs: Any = None) -> None:
        pass

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        pass

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.logs = dict(logs or {})

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.callbacks:
            with self._watched():
                super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step()
        if self.callbacks:  # reading the logs waits for the step
            with self._watched():
                super().on_train_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.callbacks:
            with self._watched():
                super().on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step()
        if self.callbacks:
            with self._watched():
                super().on_test_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        if self.callbacks:
            with self._watched():
                super().on_test_begin(logs)

    def on_test_end(self, logs: Any = None) -> None:
        if self.callbacks:
            with self._watched():
                super().on_test_end(logs)

    def _watched(self) -> AbstractContextManager[None]:
        return self._run.hooks(tested=True, within_epoch=True)

    def _step(self) -> None:
        self._run.pulse.beat()
        if self._run.must_leave():
            raise Interrupted


def _limits(run: TrialRun) -> dict[str, Any]:
    training = run.training
    limits: dict[str, Any] = {"steps_per_epoch": training.steps_per_epoch}
    # A `tf.data.Dataset` is already cut to its steps.
    cut = isinstance(run.validation, Stream) and not run.validation.keeps_state
    if run.validation is not None and not cut:
        limits["validation_steps"] = training.validation_steps
    if isinstance(run.train, Stream) and not run.train.keeps_state:
        # For arrays, class weights are already sample weights, and the feed of a PyDataset applies them.
        limits["class_weight"] = training.class_weight
    return limits

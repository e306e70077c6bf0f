"""From an order to a run that is ready to train: the job's source, data, model and callbacks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from keras.src.random.seed_generator import global_seed_generator

from kerasweep.jobs.code.program import Program, read_program
from kerasweep.jobs.errors import JobError
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.assignment import Assignment
from kerasweep.workers.trainer.feed import check_sizes, steps_of
from kerasweep.workers.trainer.hardware import Devices, scope_of
from kerasweep.workers.trainer.job.callbacks import (
    TrialCallbacks,
    check_callbacks,
    declared_first,
    declared_last,
)
from kerasweep.workers.trainer.job.data import Arrays, DataCache, JobData, Part, weighted
from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM, seed_everything
from kerasweep.workers.trainer.job.source import JobSource
from kerasweep.workers.trainer.outbox import StepPulse
from kerasweep.workers.trainer.state.building import build
from kerasweep.workers.trainer.state.checkpoint import build_optimizer
from kerasweep.workers.trainer.state.run import StopFlag, TrialRun

_SOURCES_KEPT = 4


class Workshop:
    """What the runs of a trainer share: devices, job sources, data.

    Args:
        devices: this trainer's.
        artifacts: beside which the curves for TensorBoard are written.
    """

    def __init__(self, devices: Devices, artifacts: Artifacts) -> None:
        self.devices = devices
        self._artifacts = artifacts
        self._data = DataCache()
        self._sources: OrderedDict[tuple[Path, str], tuple[JobSource, Program]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, order: Assignment, stop: StopFlag, pulse: StepPulse) -> TrialRun:
        """Make the run of an order.

        Raises:
            JobError: the job returned what cannot be trained, or asks for more devices than there are.
            Exception: what the job's own code raised.
        """
        strategy = self.devices.strategy(order.spec.resources.gpus)
        source, program = self._source(order)
        source.apply_settings()
        routed = program.route(order.job_params)
        data = self._load_data(order, source, routed.get("load_data", {}))
        training = order.training
        _check_batches(order, data.train)
        replicas = 1 if strategy is None else strategy.num_replicas_in_sync
        check_sizes(data.train, training, replicas)
        with PROCESS_RANDOM, scope_of(strategy):
            seed_everything(order.seed, source.draws_from_tensorflow)
            model = _build(
                source,
                routed.get("build_model", {}),
                data.train,
                training.batch_size,
                data.validation is not None,
            )
            own = []
            if source.has("callbacks"):
                own = check_callbacks(source.call("callbacks", routed.get("callbacks", {})))
            ordered = [
                *declared_first(training),
                *own,
                *declared_last(training, order.spec.metric),
                *self._curves(order, training),
            ]
            callbacks = TrialCallbacks(
                ordered, model, training.epochs, order.seed, steps_of(data.train, training, replicas)
            )
            global_seed_generator()  # made here as `fit` would: a trace would draw its seed by chance
        train: Part = data.train
        if isinstance(train, Arrays):
            train = weighted(train, training.class_weight)
        return TrialRun(
            order, source, model, train, data.validation, callbacks, training, stop, pulse, strategy
        )

    def _curves(self, order: Assignment, training: Training) -> list[keras.callbacks.Callback]:
        if training.tensorboard is None:
            return []
        # TensorBoard is loaded only where it is wanted: it takes longer than a small trial.
        from kerasweep.workers.trainer.job.boards import Board, Curves

        board = Board(self._artifacts, order.sweep, order.trial)
        return [Curves(board, order.params, training.tensorboard.histograms)]

    def _source(self, order: Assignment) -> tuple[JobSource, Program]:
        key = (order.bundle, order.entry)
        with self._lock:
            if key not in self._sources:
                self._sources[key] = (
                    JobSource(order.bundle, order.entry),
                    read_program(order.bundle / order.entry),
                )
                while len(self._sources) > _SOURCES_KEPT:
                    self._sources.popitem(last=False)[1][0].forget()
            self._sources.move_to_end(key)
            return self._sources[key]

    def _load_data(self, order: Assignment, source: JobSource, arguments: Mapping[str, Any]) -> JobData:
        def load() -> Any:
            # The data belong to the sweep: whichever trial comes first must find the same.
            with PROCESS_RANDOM:
                seed_everything(order.spec.seed & 0x7FFF_FFFF, source.draws_from_tensorflow)
                return source.call("load_data", arguments)

        return self._data.get(_data_key(order, arguments), load)


def _check_batches(order: Assignment, train: Part) -> None:
    if not isinstance(train, Arrays) and "training.batch_size" in order.params:
        raise JobError(
            FailureClass.USER,
            "training.batch_size cuts arrays into batches and cannot be swept over a dataset, which comes in "
            "batches; sweep a parameter of load_data in its place",
        )


def _data_key(order: Assignment, arguments: Mapping[str, Any]) -> str:
    text = json.dumps(
        [str(order.bundle), order.entry, order.spec.seed, arguments], sort_keys=True, default=repr
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _build(
    source: JobSource, arguments: Mapping[str, Any], train: Part, batch_size: int, validated: bool
) -> keras.Model:
    """Build, compile and check the job's model; every variable of training is there afterwards."""
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
        build(model, train, batch_size, validated)
    build_optimizer(model)
    return model

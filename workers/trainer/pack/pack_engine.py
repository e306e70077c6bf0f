"""The `pack` engine: trials train side by side, an epoch of each in one call of a compiled program.

Each trial keeps its own model, optimizer and callbacks, and its own thread; the program is shared by all
trials of the same graph and called with the trial's own variables. So trials come and go freely, and the
other trials in a pack cannot change its bits. Among the variants measured (one graph for all models, a loop
for each model, a thread for each model) this one was as fast as any.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils.python_utils import pythonify_logs

from kerasweep.jobs.seeds import epoch_order
from kerasweep.workers.trainer.blame import is_memory
from kerasweep.workers.trainer.engine import HandedOver, Interrupted
from kerasweep.workers.trainer.feed import train_feed
from kerasweep.workers.trainer.graph.graphs import Kinds, Material
from kerasweep.workers.trainer.graph.step_functions import foreign_function
from kerasweep.workers.trainer.graph.stepping import Cut
from kerasweep.workers.trainer.job.data import Arrays
from kerasweep.workers.trainer.job.seeding import reset_kernels
from kerasweep.workers.trainer.pack.calls import Calls
from kerasweep.workers.trainer.pack.company import Company
from kerasweep.workers.trainer.pack.decisions import Decisions
from kerasweep.workers.trainer.pack.memory import measured_gate
from kerasweep.workers.trainer.pack.programs import Bound, BoundLoop, Programs
from kerasweep.workers.trainer.pack.resident import Resident, bytes_of
from kerasweep.workers.trainer.pack.xla_choice import Plan, XlaChoice
from kerasweep.workers.trainer.state.checkpoint import build_optimizer
from kerasweep.workers.trainer.state.run import TrialRun

#: The approximate duration of a call; between two the host hears of the steps, and the run may be stopped.
_CALL_S = 0.5
_FIRST_STEPS = 64
#: The fraction of the memory limit that programs of finished trials may keep.
_FOR_PROGRAMS = 0.1
#: Methods of a model that `fit` itself consists of: a job that replaces one needs `fit`.
_OF_FIT = ("fit", "evaluate", "make_train_function", "make_test_function", "_make_function")


@dataclass
class _Prepared:
    """One run's program, and its measured speed."""

    bound: Bound
    material: Material
    step_s: float = 0.0


class PackEngine:
    """Trains with compiled programs that trials share.

    Args:
        gpu: whether this process trains on a GPU.
        decisions: the decisions that bind sweeps.
        company: the trials present.
    """

    name = "pack"

    def __init__(self, gpu: bool, decisions: Decisions, company: Company) -> None:
        self._gpu = gpu
        self._decisions = decisions
        self._company = company
        self._resident = Resident("GPU:0" if gpu else "CPU:0")
        self._gate = measured_gate(gpu)
        self._kinds = Kinds()
        self._calls = Calls()
        self._programs = Programs(int(self._gate.limit_bytes * _FOR_PROGRAMS), self._kinds)

    def refuses(self, run: TrialRun) -> str | None:
        """Return why a run cannot be packed; None if it can."""
        if run.strategy is not None:
            return "it trains on several devices"
        for part, what in ((run.train, "training"), (run.validation, "validation")):
            if part is not None and not isinstance(part, Arrays):
                return f"its {what} data are a dataset, not arrays"
        if run.callbacks.in_steps:
            names = ", ".join(sorted({type(callback).__name__ for callback in run.callbacks.in_steps}))
            return f"callbacks within epochs: {names}"
        return self._refuses_model(run.model) or self._refuses_size(run)

    @contextmanager
    def admit(self, run: TrialRun) -> Iterator[None]:
        """Wait for memory, and bind a program to the run's variables.

        Callbacks of the job's may set what the steps are traced with at the beginning of the first epoch, as
        in `fit`: then the program is bound after it.
        """
        with self._gate.enter(run, _bytes_of_variables(run.model)), self._counting_memory():
            if not run.callbacks.run_job_code and run.prepared is None:
                self._prepare(run)
            yield

    def train_epoch(self, run: TrialRun) -> dict[str, Any]:
        """Train one epoch, and validate; the logs are those of Keras."""
        with self._counting_memory():
            return self._train_epoch(run)

    def _train_epoch(self, run: TrialRun) -> dict[str, Any]:
        prepared: _Prepared | None = run.prepared
        if prepared is None:
            # For the first time, or a callback has had the steps traced again.
            if self._refuses_model(run.model):
                raise HandedOver
            prepared = self._prepare(run)
            run.start_clock()
        bound, material, model = prepared.bound, prepared.material, run.model
        rows = material.train_cut.rows
        with tf.device(self._resident.device):
            shuffled = (
                epoch_order(run.order.seed, run.epoch + 1, rows) if run.training.shuffle else np.arange(rows)
            )
            order = tf.constant(shuffled)
        model.reset_metrics()
        steps = run.training.steps_per_epoch or material.train_cut.steps
        logs = self._run(run, prepared, bound.train, material.train, order, steps)
        logs = dict(_as_fit(model, logs))
        if bound.test is not None and material.validation_cut is not None:
            model.reset_metrics()
            steps = run.training.validation_steps or material.validation_cut.steps
            tested = self._run(run, prepared, bound.test, material.validation, None, steps)
            tested = pythonify_logs(_as_fit(model, tested))
            logs.update({f"val_{name}": value for name, value in tested.items()})
        return logs

    def _run(
        self, run: TrialRun, prepared: _Prepared, bound: BoundLoop, data: Any, order: Any, steps: int
    ) -> Any:
        """Make the steps of an epoch in calls of about `_CALL_S` each; where they are cut does not affect the
        bits.
        """
        steps = min(steps, bound.loop.cut.steps)
        at, logs = 0, None
        while at < steps:
            if run.must_leave():
                raise Interrupted
            count = math.ceil(_CALL_S / prepared.step_s) if prepared.step_s else _FIRST_STEPS
            stop = min(steps, at + count)
            with self._calls.made(lambda: _wait(run)):
                started_s = time.perf_counter()
                logs = bound.run(data, order, at, stop)
                if self._gpu:
                    tf.test.experimental.sync_devices()
                prepared.step_s = max(1e-7, (time.perf_counter() - started_s) / (stop - at))
            run.pulse.beat(stop - at)
            at = stop
        return logs

    def _prepare(self, run: TrialRun) -> _Prepared:
        material = self._material(run)
        build_optimizer(run.model)
        steps = ("train_step", "test_step")
        choice = self._choice(run, material.train_cut.steps)
        apart = run.attributes is not None and not run.attributes.alike(*steps)
        with nullcontext() if run.attributes is None or apart else run.attributes.tracing(*steps):
            bound = self._programs.bind(material, choice, traced=apart)
        if bound.traced is not None:
            run.steps.learn("train_step", bound.traced.train.captures)
            run.steps.learn("test_step", bound.traced.test.captures if bound.traced.test else ())
        run.notes.extend(note for note in bound.notes if note not in run.notes)
        run.prepared = prepared = _Prepared(bound, material)
        return prepared

    def _material(self, run: TrialRun) -> Material:
        assert isinstance(run.train, Arrays)
        batch = run.training.batch_size
        train_feed(run.train, run.training, run.order.seed, replicas=1)  # refuses what `fit` refuses
        validation = run.validation if isinstance(run.validation, Arrays) else None
        return Material(
            model=run.model,
            seed=lambda: reset_kernels() if run.source.draws_from_tensorflow else None,
            wait=lambda: _wait(run),
            train=self._resident.tensors(run.train),
            train_cut=Cut(run.train.rows, batch, ordered=True),
            validation=None if validation is None else self._resident.tensors(validation),
            validation_cut=None
            if validation is None
            else Cut(validation.rows, run.training.validation_batch_size or batch, ordered=False),
            told=lambda graph: self._company.tell(run.order.sweep, run.order.run, graph),
            tracing=run.tracing,
            quiet=nullcontext if self._gpu else lambda: self._calls.paused(lambda: _wait(run)),
        )

    def _choice(self, run: TrialRun, steps_per_epoch: int) -> XlaChoice:
        sweep, stopping = run.order.sweep, run.order.spec.stopping
        trials = run.order.spec.planned_trials()
        epochs = run.training.epochs if stopping is None else stopping.expected_epochs(run.training.epochs)
        plan = Plan(
            max(1, round(epochs * steps_per_epoch)),
            trials,
            lambda enough, wait: self._company.sharers(sweep, trials, enough, wait),
        )
        return XlaChoice(
            run.training.xla,
            lambda key: self._decisions.find(run, key),
            lambda key, value, reason: self._decisions.decide(run, key, value, reason),
            plan,
            self._kinds,
        )

    @contextmanager
    def _counting_memory(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            if is_memory(exc):
                self._gate.halve()
            raise

    def _refuses_model(self, model: keras.Model) -> str | None:
        if model.run_eagerly or tf.config.functions_run_eagerly():
            return "the model runs eagerly"
        for name in _OF_FIT:
            own = getattr(type(model), name, None)
            if name in vars(model) or own is not getattr(keras.Model, name):
                return f"the model has a custom {name}"
        foreign = foreign_function(model)
        return None if foreign is None else f"the model has a custom {foreign}"

    def _refuses_size(self, run: TrialRun) -> str | None:
        wanted = sum(bytes_of(part) for part in (run.train, run.validation) if isinstance(part, Arrays))
        if wanted > self._gate.limit_bytes // 2:
            return (
                f"its data take {wanted / 2**20:.0f} MiB, more than half of the "
                f"{self._gate.limit_bytes / 2**20:.0f} MiB that this trainer may use"
            )
        return None


def _wait(run: TrialRun) -> None:
    """Show progress to the host, and allow stopping, while another run compiles the program."""
    if run.stop.leaving:
        raise Interrupted
    run.pulse.beat(0)


def _as_fit(model: keras.Model, logs: Any) -> Any:
    """Return what `fit` would report for the last step's logs, which are None if the metrics hold them."""
    return model.get_metrics_result() if logs is None else model._get_metrics_result_or_logs(logs)


def _bytes_of_variables(model: keras.Model) -> int:
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    return sum(
        math.prod(variable.shape) * tf.dtypes.as_dtype(variable.dtype).size
        for variable in [*model.variables, *optimizer]
    )

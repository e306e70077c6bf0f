"""A trial's callbacks: those declared in the sweep file around those that the job returns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
from keras.src.callbacks.monitor_callback import MonitorCallback
from keras.src.utils.naming import to_snake_case
from keras.src.utils.python_utils import pythonify_logs

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.sweepfile.spec import Metric
from kerasweep.jobs.sweepfile.training import EarlyStopping, ReduceOnPlateau, Training
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.job.draws import OwnDraws

_NOT_OF_JOBS = ("keras.", "kerasweep.")
_BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_begin",
    "on_test_end",
    "on_test_batch_begin",
    "on_test_batch_end",
)
#: Hooks that check at each batch whether it is time to save, which when saving by epoch it never is.
_SAVING_HOOKS = (
    keras.callbacks.ModelCheckpoint.on_train_batch_end,
    keras.callbacks.BackupAndRestore.on_train_batch_end,
)


class DeclaredSchedule(keras.callbacks.Callback):
    """Sets the learning rate at the start of each epoch: the optimizer's own times a factor.

    Changes by another callback, such as ReduceLROnPlateau, are kept as a separate factor.

    Args:
        factor: returns the factor of an epoch, from 1.

    Raises:
        JobError: the optimizer's learning rate cannot be set.
    """

    epochs_only = True

    def __init__(self, factor: Callable[[int], float]) -> None:
        super().__init__()
        self._factor = factor
        self.initial = 0.0
        self.carried = 1.0
        self.last = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the rate; `epoch` counts from 0, as in Keras."""
        optimizer = self.model.optimizer
        if isinstance(
            getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule
        ):
            raise JobError(
                FailureClass.USER,
                "training.learning_rate_schedule needs an optimizer with a plain learning rate, got "
                f"{type(optimizer._learning_rate).__name__}; remove one of the two schedules",
            )
        present = _rate_of(optimizer)
        if epoch == 0:
            self.initial = present
        elif self.last and present != self.last:
            self.carried *= present / self.last
        optimizer.learning_rate = self.initial * self._factor(epoch + 1) * self.carried
        self.last = _rate_of(optimizer)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the rate that the epoch was trained with."""
        if logs is not None:
            logs["learning_rate"] = _rate_of(self.model.optimizer)


def _rate_of(optimizer: keras.Optimizer) -> float:
    # Under MirroredStrategy it is a variable that float() does not accept.
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class MonitorCheck(keras.callbacks.Callback):
    """Refuses a declared callback that monitors a metric which is not reported, or has no known direction.

    Args:
        watching: the callback of each block of the sweep file.

    Raises:
        JobError: a metric is not reported, which Keras only warns about, or Keras does not know its
            direction.
    """

    epochs_only = True

    def __init__(self, watching: Mapping[str, MonitorCallback]) -> None:
        super().__init__()
        self._watching = dict(watching)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look the metrics up among those reported so far."""
        for block, callback in self._watching.items():
            monitor = callback.monitor
            key = f"training.{block}.monitor"
            if monitor not in (logs or {}):
                raise JobError(FailureClass.USER, not_reported(key, monitor, logs or {}))
            expect_number(key, monitor, (logs or {})[monitor])
            if callback.monitor_op is None:
                try:
                    callback._set_monitor_op()
                except ValueError as exc:
                    raise JobError(
                        FailureClass.USER,
                        f"training.{block}.mode must be min or max where Keras does not know whether more is "
                        f"better, got {callback.mode} for {monitor!r}; add `mode: min` or `mode: max`",
                    ) from exc


class AskedNames(keras.callbacks.Callback):
    """Reports a metric under the name in the sweep file, if Keras has appended a number.

    A metric created before the model's, such as one in `load_data`, turns the model's own `auc` into `auc_1`.

    Args:
        names: the names in the sweep file, such as `val_auc`.
    """

    epochs_only = True

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = sorted(set(names))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the missing names, each where exactly one metric can be meant."""
        logs = {} if logs is None else logs
        for name in [name for name in self._names if name not in logs]:
            numbered = re.compile(re.escape(name) + r"_\d+")
            found = [known for known in logs if numbered.fullmatch(known) and self._is_automatic(known)]
            if len(found) == 1:
                logs[name] = logs[found[0]]

    def _is_automatic(self, reported: str) -> bool:
        compiled = getattr(self.model, "_compile_metrics", None)
        names = [
            metric.name
            for metric in getattr(compiled, "metrics", [])
            if re.fullmatch(to_snake_case(type(metric).__name__) + r"_\d+", metric.name)
        ]
        return any(reported.endswith(name) for name in names)


class TrialCallbacks:
    """A trial's callbacks, called epoch by epoch as `fit` calls them.

    Keras' own `CallbackList` calls them, so each hook gets what it gets under `fit`: `logs` is always a dict,
    shared by all callbacks, so that a job's callback may add a metric that later ones monitor.

    Args:
        callbacks: in call order.
        model: theirs.
        epochs: of the trial.
        draws: what the trial draws from the process's generators.
        steps: of an epoch, if known in advance, as in `fit`.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        epochs: int,
        draws: OwnDraws,
        steps: int | None = None,
    ) -> None:
        self._list = TrialCallbackList(
            list(callbacks), add_history=True, model=model, verbose=0, epochs=epochs, steps=steps
        )
        self.all: list[keras.callbacks.Callback] = self._list.callbacks
        self._draws = draws
        #: Whether the job's own code runs in the hooks: only that draws numbers or changes attributes.
        self.run_job_code = any(map(_runs_job_code, self.all))

    @property
    def in_steps(self) -> list[keras.callbacks.Callback]:
        """Those that must be called within an epoch: at batches, or around the validation."""
        return [callback for callback in self.all if _acts_in_steps(callback)]

    def train_begin(self) -> None:
        """Begin the training; callbacks reset their state here, so a saved state is restored afterwards."""
        for callback in self.all:
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                # It would restore the weights without the rest of the state, and count their epochs twice.
                callback._load_model = _restore_nothing
        with self._in_turn():
            self._list.on_train_begin()

    def continue_logs(self) -> None:
        """Let restored CSV logs continue after their last row."""
        for callback in self.all:
            if isinstance(callback, keras.callbacks.CSVLogger):
                callback.append_header = False

    def epoch_begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 1."""
        with self._in_turn():
            self._list.on_epoch_begin(epoch - 1)

    def epoch_end(self, epoch: int, logs: Mapping[str, Any]) -> dict[str, Any]:
        """End an epoch, counted from 1.

        Args:
            epoch: which.
            logs: the measurements.

        Returns:
            The logs as changed by callbacks.
        """
        with self._in_turn():
            return self._list.end_epoch(epoch - 1, logs)

    def close(self) -> None:
        """Release what our callbacks hold open, however the attempt ended."""
        for callback in self.all:
            if getattr(callback, "stateless", False):
                callback.close()

    def train_end(self, logs: Mapping[str, Any]) -> None:
        """End."""
        with self._in_turn():
            self._list.on_train_end(logs)

    def _in_turn(self) -> AbstractContextManager[None]:
        return self._draws.own() if self.run_job_code else nullcontext()


def _restore_nothing() -> None:
    """Replaces what BackupAndRestore does before a training."""


class TrialCallbackList(keras.callbacks.CallbackList):
    """Keras' list of callbacks, each called in the thread of the trial."""

    def _configure_async_dispatch(self, callbacks: Any) -> None:
        """Disable it: asynchronous callbacks would not be reproducible."""

    def end_epoch(self, epoch: int, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Call the hooks at the end of an epoch; return the logs that they shared."""
        shared: dict[str, Any] = pythonify_logs(dict(logs))
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, shared)
        return shared


def declared_first(training: Training, metric: Metric) -> list[keras.callbacks.Callback]:
    """Return the callbacks before the job's: the metrics' names, and the learning-rate schedule."""
    watching = [block for block in (training.reduce_on_plateau, training.early_stopping) if block is not None]
    names = AskedNames([metric.name, *(block.monitor for block in watching)])
    schedule = training.learning_rate_schedule
    if schedule.constant is not None:
        return [names]
    return [names, DeclaredSchedule(lambda epoch: schedule.factor(epoch, training.epochs))]


def declared_last(training: Training, metric: Metric) -> list[keras.callbacks.Callback]:
    """Return the declared callbacks that monitor metrics: they come after the job's, which may add some.

    Args:
        training: the trial's.
        metric: the sweep's; if a callback monitors it too, its goal gives the direction.
    """
    blocks = {
        "reduce_on_plateau": (keras.callbacks.ReduceLROnPlateau, training.reduce_on_plateau),
        "early_stopping": (keras.callbacks.EarlyStopping, training.early_stopping),
    }
    watching = {}
    for name, (kind, block) in blocks.items():
        if block is not None:
            watching[name] = kind(**block.model_dump(exclude_none=True) | {"mode": _mode(block, metric)})
    return [MonitorCheck(watching), *watching.values()] if watching else []


def _mode(block: EarlyStopping | ReduceOnPlateau, metric: Metric) -> str:
    """Return the direction of a block's metric: Keras knows none for an output's loss."""
    if block.mode != "auto":
        return block.mode
    if block.monitor == metric.name:
        return "min" if metric.goal == "minimize" else "max"
    return "min" if block.monitor.endswith("loss") else "auto"


def not_reported(what: str, name: str, metrics: Mapping[str, Any]) -> str:
    """Return the message for a metric that the model does not report."""
    reported = ", ".join(sorted(metrics))
    message = f"{what} must be a metric that the model reports, got {name!r}; it reports {reported}"
    if name.startswith("val_") and not any(found.startswith("val_") for found in metrics):
        return f"{message}; return 'validation' from load_data to get val_ metrics"
    near = difflib.get_close_matches(name, list(metrics), n=1)
    return f"{message}; did you mean {near[0]!r}?" if near else f"{message}; add it in model.compile"


def expect_number(what: str, name: str, value: Any) -> None:
    """Refuse a monitored metric with several values, such as one for each class.

    Args:
        what: the key of the sweep file that names the metric.
        name: the metric.
        value: as reported.

    Raises:
        JobError: it is not one number.
    """
    if np.size(value) == 1:
        return
    raise JobError(
        FailureClass.USER,
        f"{what} must be a metric of one number, got {name!r} with {np.size(value)} values (shape "
        f"{np.shape(value)}), such as one for each class; average them in model.compile, as in "
        f'keras.metrics.F1Score(average="macro"), or let a callback add their mean to `logs`',
    )


def check_callbacks(returned: Any) -> list[keras.callbacks.Callback]:
    """Check what the job's `callbacks` returned.

    Raises:
        JobError: not a list of Keras callbacks.
    """
    found = keras.tree.flatten(returned) if isinstance(returned, (list, tuple)) else [returned]
    for callback in found:
        if not isinstance(callback, keras.callbacks.Callback):
            raise JobError(
                FailureClass.USER,
                f"callbacks must return a list of keras.callbacks.Callback, got a {type(callback).__name__} "
                "in it; return [keras.callbacks.…(…)]",
            )
    return found


def _runs_job_code(callback: keras.callbacks.Callback) -> bool:
    """Tell whether a callback may run the job's code; one of Keras' own does if it was given a function."""
    takes_functions = (keras.callbacks.LambdaCallback, keras.callbacks.LearningRateScheduler)
    return isinstance(callback, takes_functions) or not type(callback).__module__.startswith(_NOT_OF_JOBS)


def _acts_in_steps(callback: keras.callbacks.Callback) -> bool:
    """Tell whether a callback does something within an epoch, rather than merely having a hook there."""
    if getattr(callback, "epochs_only", False):
        return False
    return any(
        not hasattr(getattr(callback, name), "_is_default") and not _is_idle(callback, name)
        for name in _BATCH_HOOKS
    )


def _is_idle(callback: keras.callbacks.Callback, hook: str) -> bool:
    """Tell whether a hook is one of Keras' own that does nothing as configured.

    `TerminateOnNaN` ends an epoch whose loss is not finite: the trial has diverged by then.
    """
    own = getattr(getattr(callback, hook), "__func__", None)
    by_epochs = getattr(callback, "save_freq", None) == "epoch"
    return (own in _SAVING_HOOKS and by_epochs) or (
        own is keras.callbacks.TerminateOnNaN.on_batch_end and not getattr(callback, "raise_error", False)
    )

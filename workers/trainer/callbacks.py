"""The callbacks of a trial: those that the sweep file declares around those that the job returns."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.seeds import epoch_seed
from kerasweep.jobs.training import Training
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.seeding import PROCESS_RANDOM, seed_python_and_numpy

#: Stands for the end of the training where a random stream asks for an epoch.
_LAST = 1 << 40
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


class DeclaredSchedule(keras.callbacks.Callback):
    """Sets the learning rate at the start of each epoch: the optimizer's own times a factor.

    What another callback, such as ReduceLROnPlateau, made of the rate meanwhile stays in force as a factor.

    Args:
        factor: of an epoch, from 1.

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
        """Set the rate; `epoch` counts from 0, as Keras counts."""
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
    # Under MirroredStrategy it is a variable of which float() makes nothing.
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class MonitorCheck(keras.callbacks.Callback):
    """Refuses what Keras only warns of: a declared callback that watches a metric which is not reported.

    Args:
        monitors: the metric that each block of the sweep file watches.

    Raises:
        JobError: one of them is not reported.
    """

    epochs_only = True

    def __init__(self, monitors: Mapping[str, str]) -> None:
        super().__init__()
        self._monitors = dict(monitors)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look the metrics up among those that were reported so far."""
        for block, monitor in self._monitors.items():
            if monitor not in (logs or {}):
                raise JobError(
                    FailureClass.USER, not_reported(f"training.{block}.monitor", monitor, logs or {})
                )


class TrialCallbacks:
    """A trial's callbacks, driven epoch by epoch.

    All of them get the same `logs`, so that a job's callback may add a metric that those after it watch.

    Args:
        callbacks: in the order in which they are called.
        model: the trial's.
        epochs: how many there will be at most.
        seed: the trial's; Python's and NumPy's generators are set from it before each epoch's hooks, so
            that a resumed trial draws what an undisturbed one does.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, epochs: int, seed: int
    ) -> None:
        self.all = list(callbacks)
        self.history = keras.callbacks.History()
        self.all.append(self.history)
        self._seed = seed
        for callback in self.all:
            callback.set_params({"verbose": 0, "epochs": epochs, "steps": None})
            callback.set_model(model)
        model.history = self.history

    @property
    def in_steps(self) -> list[keras.callbacks.Callback]:
        """Those that must be called within an epoch: at batches, or around the validation."""
        return [callback for callback in self.all if _overrides_any(callback)]

    def train_begin(self) -> None:
        """Begin; callbacks forget here what they knew, so a state is put back after it."""
        with PROCESS_RANDOM:
            seed_python_and_numpy(epoch_seed(self._seed, 0))
            for callback in self.all:
                callback.on_train_begin()

    def epoch_begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 1."""
        with PROCESS_RANDOM:
            seed_python_and_numpy(epoch_seed(self._seed, epoch))
            for callback in self.all:
                callback.on_epoch_begin(epoch - 1)

    def epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        """End an epoch, counted from 1; callbacks may add to `logs`."""
        with PROCESS_RANDOM:
            seed_python_and_numpy(epoch_seed(self._seed, -epoch))
            for callback in self.all:
                callback.on_epoch_end(epoch - 1, logs)

    def close(self) -> None:
        """Let go of what callbacks of ours hold open, however the attempt ended."""
        for callback in self.all:
            if getattr(callback, "stateless", False):
                callback.close()

    def train_end(self, logs: dict[str, Any]) -> None:
        """End."""
        with PROCESS_RANDOM:
            seed_python_and_numpy(epoch_seed(self._seed, _LAST))
            for callback in self.all:
                callback.on_train_end(logs)


def declared_first(training: Training) -> list[keras.callbacks.Callback]:
    """Return the declared callbacks that come before the job's: the schedule of the learning rate."""
    schedule = training.learning_rate_schedule
    if schedule.constant is not None:
        return []
    return [DeclaredSchedule(lambda epoch: schedule.factor(epoch, training.epochs))]


def declared_last(training: Training) -> list[keras.callbacks.Callback]:
    """Return the declared callbacks that watch metrics: they come after the job's, which may add some."""
    found: list[keras.callbacks.Callback] = []
    monitors = {}
    if training.reduce_on_plateau is not None:
        settings = training.reduce_on_plateau.model_dump(exclude_none=True)
        monitors["reduce_on_plateau"] = training.reduce_on_plateau.monitor
        found.append(keras.callbacks.ReduceLROnPlateau(**settings))
    if training.early_stopping is not None:
        settings = training.early_stopping.model_dump(exclude_none=True)
        monitors["early_stopping"] = training.early_stopping.monitor
        found.append(keras.callbacks.EarlyStopping(**settings))
    return [MonitorCheck(monitors), *found] if found else []


def not_reported(what: str, name: str, metrics: Mapping[str, Any]) -> str:
    """Return the message for a metric that the model does not report."""
    reported = ", ".join(sorted(metrics))
    message = f"{what} must be a metric that the model reports, got {name!r}; it reports {reported}"
    if name.startswith("val_") and not any(found.startswith("val_") for found in metrics):
        return f"{message}; return 'validation' from load_data to get val_ metrics"
    near = difflib.get_close_matches(name, list(metrics), n=1)
    return f"{message}; did you mean {near[0]!r}?" if near else f"{message}; add it in model.compile"


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


def _overrides_any(callback: keras.callbacks.Callback) -> bool:
    if getattr(callback, "epochs_only", False):
        return False
    return any(not hasattr(getattr(callback, name), "_is_default") for name in _BATCH_HOOKS)

"""The `training:` block of a sweep file: what the trainer does beyond the job's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from kerasweep.jobs.sweepfile import synonyms
from kerasweep.jobs.sweepfile.block import (
    NO_BOOLEAN,
    Block,
    Count,
    Flag,
    Natural,
    NotNegative,
    Number,
    Positive,
    Text,
)
from kerasweep.jobs.sweepfile.rules import RuleError, show
from kerasweep.jobs.sweepfile.schedule import Schedule

Mode = Literal["auto", "min", "max"]


class EarlyStopping(Block):
    """Ends a trial that no longer improves; the keys are those of `keras.callbacks.EarlyStopping`."""

    monitor: Text = "val_loss"
    min_delta: NotNegative = Field(default=0.0, description="Changes below this are no improvement")
    patience: Natural = Field(default=0, description="Epochs without improvement before the trial ends")
    mode: Mode = "auto"
    baseline: Number | None = None
    restore_best_weights: Flag = False
    start_from_epoch: Natural = 0


class ReduceOnPlateau(Block):
    """Lowers the learning rate on a plateau; the keys are those of `keras.callbacks.ReduceLROnPlateau`."""

    monitor: Text = "val_loss"
    factor: Annotated[Positive, Field(lt=1)] = 0.1
    patience: Natural = 10
    mode: Mode = "auto"
    min_delta: NotNegative = 1e-4
    cooldown: Natural = 0
    min_lr: NotNegative = 0.0


class TensorBoard(Block):
    """Curves for TensorBoard, and optionally histograms of the weights."""

    histograms: Flag = False


def _take_switch(raw: Any) -> Any:
    if isinstance(raw, str):
        raise RuleError(f"must be true, false or a mapping, got {show(raw)}", NO_BOOLEAN)
    return ({} if raw else None) if isinstance(raw, bool) else raw


def _check_xla(raw: Any) -> Any:
    # A Literal would take 1 for True and 0 for False.
    if raw != "auto" and not isinstance(raw, bool):
        remedy = NO_BOOLEAN if isinstance(raw, str) else "write auto"
        raise RuleError(f"must be auto, true or false, got {show(raw)}", remedy)
    return raw


class Training(Block):
    """How each trial trains."""

    elsewhere: ClassVar[Mapping[str, str]] = synonyms.TRAINING

    epochs: Count = Field(examples=[30], description="Maximum number of epochs")
    batch_size: Count = Field(default=32, description="Samples per step, over all replicas")
    learning_rate_schedule: Schedule = Field(
        default_factory=lambda: Schedule.model_validate("constant"),
        description="Factors of the optimizer's own initial learning rate",
    )
    early_stopping: EarlyStopping | None = None
    reduce_on_plateau: ReduceOnPlateau | None = None
    class_weight: dict[int, NotNegative] | None = Field(
        default=None, description="Weight in the loss of each class number"
    )
    steps_per_epoch: Count | None = None
    validation_steps: Count | None = None
    validation_batch_size: Count | None = Field(
        default=None, description="Samples per validation step; the training batch size by default"
    )
    shuffle: Flag = True
    tensorboard: Annotated[TensorBoard | None, BeforeValidator(_take_switch)] = Field(
        default=None, description="true, false, or {histograms: true}"
    )
    xla: Annotated[Literal["auto", True, False], BeforeValidator(_check_xla)] = Field(
        default="auto", description="Compile with XLA: auto chooses by measurement, once for a sweep"
    )

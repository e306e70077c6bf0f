"""Learning-rate schedules of a sweep file: factors of the optimizer's initial learning rate.

Epochs count from 1, and each has one factor from its first step to its last.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from kerasweep.jobs.sweepfile.block import Block, Count, Fraction, Natural, Positive
from kerasweep.jobs.sweepfile.rules import RuleError, nearest, show

#: With a larger base, powers would soon overflow.
Decay = Annotated[Positive, Field(le=1)]


class ScheduleForm(Block):
    """A form of schedule with its settings."""

    def at(self, epoch: int, epochs: int) -> float:
        """Return the factor of an epoch, from 1, in a training of `epochs` epochs."""
        raise NotImplementedError


class Steady(ScheduleForm):
    """The initial learning rate in every epoch."""

    def at(self, epoch: int, epochs: int) -> float:
        return 1.0


class StepDecay(ScheduleForm):
    """Multiplied by `factor` after every `every` epochs."""

    every: Count = Field(examples=[10], description="Epochs between two steps")
    factor: Decay = Field(examples=[0.1], description="Factor of each step")

    def at(self, epoch: int, epochs: int) -> float:
        return float(self.factor ** ((epoch - 1) // self.every))


class Piecewise(ScheduleForm):
    """factors[0] up to and including epoch boundaries[0], then factors[1], and so on.

    The bounds are those of `keras.optimizers.schedules.PiecewiseConstantDecay`.
    """

    boundaries: list[Count] = Field(
        min_length=1, examples=[[10, 20]], description="The last epoch of each piece but the final one"
    )
    factors: list[Positive] = Field(
        min_length=2, examples=[[1.0, 0.1, 0.01]], description="One for each piece"
    )

    @model_validator(mode="after")
    def _check_pieces(self) -> Piecewise:
        if any(one >= other for one, other in zip(self.boundaries, self.boundaries[1:], strict=False)):
            rule = f"boundaries must increase, got {show(self.boundaries)}"
            raise RuleError(rule, "list the epochs in order, each once", ("boundaries",))
        if len(self.factors) != len(self.boundaries) + 1:
            got = f"{len(self.factors)} factors for {len(self.boundaries)} boundaries"
            rule = f"factors must be one more than boundaries, got {got}"
            raise RuleError(rule, "give one factor for each piece", ("factors",))
        return self

    def at(self, epoch: int, epochs: int) -> float:
        return self.factors[bisect_left(self.boundaries, epoch)]


class Exponential(ScheduleForm):
    """Decays by `rate` over every `every` epochs, a little in each epoch."""

    rate: Decay = Field(examples=[0.95], description="Factor over `every` epochs")
    every: Count = 1

    def at(self, epoch: int, epochs: int) -> float:
        return float(self.rate ** ((epoch - 1) / self.every))


class Cosine(ScheduleForm):
    """From 1 in the first epoch along half a cosine towards `min_factor`.

    `min_factor` would be reached in the epoch after the last, so that no epoch has a learning rate of zero.
    Loshchilov and Hutter, SGDR (2016), without restarts.
    """

    min_factor: Fraction = Field(default=0.0, description="Where the cosine ends")

    def at(self, epoch: int, epochs: int) -> float:
        return _half_cosine((epoch - 1) / epochs, self.min_factor)


class WarmupCosine(ScheduleForm):
    """Linearly up to 1 over `warmup_epochs`, then as `cosine` over the remaining epochs."""

    warmup_epochs: Natural = Field(examples=[5])
    min_factor: Fraction = Field(default=0.0, description="Where the cosine ends")

    def at(self, epoch: int, epochs: int) -> float:
        if epoch <= self.warmup_epochs:
            return epoch / (self.warmup_epochs + 1)
        done = epoch - 1 - self.warmup_epochs
        return _half_cosine(done / (epochs - self.warmup_epochs), self.min_factor)


class Schedule(Block):
    """Exactly one form: a word such as `cosine`, or a mapping such as {exponential: {rate: 0.95}}."""

    constant: Steady | None = None
    step_decay: StepDecay | None = None
    piecewise: Piecewise | None = None
    exponential: Exponential | None = None
    cosine: Cosine | None = None
    warmup_cosine: WarmupCosine | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_word(cls, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        if raw not in cls.model_fields:
            raise RuleError(f"unknown schedule {show(raw)}", nearest(raw, cls.model_fields))
        return {raw: {}}

    @model_validator(mode="after")
    def _check_one(self) -> Schedule:
        chosen = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(chosen) != 1:
            rule = f"a schedule has exactly one form, got {', '.join(chosen) or 'none'}"
            raise RuleError(rule, f"keep one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def form(self) -> ScheduleForm:
        """The chosen form."""
        forms: Mapping[str, ScheduleForm | None] = dict(self)
        return next(form for form in forms.values() if form is not None)

    def factor(self, epoch: int, epochs: int) -> float:
        """Return the factor of the optimizer's initial learning rate in an epoch.

        Args:
            epoch: from 1 to `epochs`.
            epochs: the maximum number of epochs of the trial.
        """
        return self.form.at(epoch, epochs)


def _half_cosine(progress: float, low: float) -> float:
    return low + (1 - low) * (1 + math.cos(math.pi * progress)) / 2

"""The `stopping:` block of a sweep file: at which epochs trials are compared, and which continue."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, Strict, model_validator

from kerasweep.jobs.sweepfile.block import LARGEST, Block, Count, Natural, take_whole
from kerasweep.jobs.sweepfile.rules import RuleError, show

#: The cohort by default, and as it was in sweeps recorded without one; below so many trials, a method that
#: learns has smaller ones, since it draws the points of a cohort from those before the last one.
COHORT, FEW_TRIALS = 27, 4 * 27

Factor = Annotated[int, Strict(), Field(ge=2, le=LARGEST), BeforeValidator(take_whole)]


class Halving(Block):
    """Successive halving: at each rung, the best 1/factor of a cohort continue.

    Jamieson and Talwalkar, Non-stochastic Best Arm Identification (2016); with brackets, Hyperband: Li et al.
    (2018).
    """

    min_epochs: Count | None = Field(
        default=None,
        description="The first rung; by default epochs / factor², or lower where brackets need more rungs",
    )
    factor: Factor = Field(default=3, description="One in this many continues; also the ratio between rungs")
    cohort: Count | None = Field(
        default=None,
        description="The number of trials that are compared with each other; by default 27, or factor² in a "
        "sweep of fewer than 108 trials whose method learns",
    )
    brackets: Count = Field(
        default=1, description="Cohorts take turns; each bracket skips one more of the first rungs"
    )
    rungs: list[Count] | None = Field(
        default=None, min_length=1, description="The rungs themselves, instead of min_epochs"
    )

    @model_validator(mode="after")
    def _check_numbers(self) -> Halving:
        if self.rungs is not None and self.min_epochs is not None:
            rule = f"rungs replace min_epochs, got rungs={self.rungs}, min_epochs={self.min_epochs}"
            raise RuleError(rule, "remove one of the two", ("min_epochs",))
        if self.rungs is not None and any(b <= a for a, b in zip(self.rungs, self.rungs[1:], strict=False)):
            rule = f"must increase, got {self.rungs}"
            raise RuleError(rule, f"write {sorted(set(self.rungs))}", ("rungs",))
        if self.cohort is not None and self.cohort < self.factor:
            rule = f"cohort must be at least factor, got cohort={self.cohort}, factor={self.factor}"
            raise RuleError(rule, f"write a cohort of {self.factor**3}, or a lower factor", ("cohort",))
        return self

    @property
    def size(self) -> int:
        """The number of trials in a cohort."""
        return max(COHORT, self.factor) if self.cohort is None else self.cohort

    def settled(self, last: int, guided: int | None = None) -> Halving:
        """Return it with the first rung and the cohort that it has by default, as it is recorded.

        Args:
            last: the maximum number of epochs of a trial.
            guided: the number of trials if the method learns from them.
        """
        size = self.size
        if self.cohort is None and guided is not None and guided < FEW_TRIALS:
            size = min(size, self.factor**2)
        first = self.min_epochs
        if self.rungs is None and first is None:
            first = -(-last // self.factor ** max(2, self.brackets))
        return self.model_copy(update={"min_epochs": first, "cohort": size})

    def epochs_at(self, last: int) -> tuple[int, ...]:
        """Return the rungs below the last epoch; from 1 where the first was left open, as it once was."""
        if self.rungs is not None:
            return tuple(rung for rung in self.rungs if rung < last)
        found, rung = [], self.min_epochs or 1
        while rung < last:
            found.append(rung)
            rung *= self.factor
        return tuple(found)

    def expected_epochs(self, last: int) -> float:
        """Return how many of `last` epochs a trial trains on average."""
        rungs, total = self.epochs_at(last), 0.0
        for skipped in range(self.brackets):
            ends = pairwise((0, *rungs[skipped:], last))
            total += sum((end - start) / self.factor**level for level, (start, end) in enumerate(ends))
        return total / self.brackets


class Median(Block):
    """Stops a trial whose best value so far is worse than the median of earlier trials at the same epoch.

    Golovin et al., Google Vizier (2017), section 3.2.2; trials are ordered by number instead of time.
    """

    min_epochs: Count = Field(default=1, description="The first epoch at which trials are compared")
    every: Count | None = Field(
        default=None, description="Epochs between two comparisons; by default min_epochs"
    )
    startup_trials: Natural = Field(default=5, description="The first trials, which are never stopped")

    def epochs_at(self, last: int) -> tuple[int, ...]:
        """Return the epochs before `last` at which trials are compared."""
        return tuple(range(self.min_epochs, last, self.every or self.min_epochs))

    def expected_epochs(self, last: int) -> float:
        """Return how many of `last` epochs a trial trains on average, if half end when first compared."""
        return (self.min_epochs + last) / 2


class Stopping(Block):
    """When trials or the sweep end early."""

    halving: Halving | None = None
    median: Median | None = None
    patience: Count | None = Field(
        default=None, description="The sweep ends after this many trials without improvement"
    )

    @model_validator(mode="after")
    def _check_rules(self) -> Stopping:
        if self.halving is not None and self.median is not None:
            raise RuleError(
                "trials can be stopped by only one rule, got halving and median", "remove one of the two"
            )
        return self

    def expected_epochs(self, last: int) -> float:
        """Return how many of `last` epochs a trial trains on average."""
        rule = self.halving or self.median
        return float(last) if rule is None else rule.expected_epochs(last)

    def settled(self, last: int, guided: int | None = None) -> Stopping:
        """Return it with nothing left open, as it is recorded; see `Halving.settled`."""
        if self.halving is None:
            return self
        return self.model_copy(update={"halving": self.halving.settled(last, guided)})

    def check(self, last: int) -> None:
        """Check the rungs against the epochs.

        Args:
            last: the maximum number of epochs of a trial.

        Raises:
            RuleError: a rung is beyond them, or no trial ever reaches one.
        """
        for name, rule in (("halving", self.halving), ("median", self.median)):
            if rule is None:
                continue
            first = rule.min_epochs or 1
            outright = rule.rungs if isinstance(rule, Halving) else None
            beyond = [rung for rung in outright or [first] if rung >= last]
            if beyond:
                key = "rungs" if outright else "min_epochs"
                rule_text = f"{key} must lie below training.epochs ({last}), got {show(outright or first)}"
                if last == 1:
                    rule_text = f"{name} compares trials before their last epoch, got training.epochs: 1"
                raise RuleError(rule_text, _remedy_beyond(name, rule, last), (name, key))
        if self.halving is not None and self.halving.brackets > len(self.halving.epochs_at(last)):
            count = len(self.halving.epochs_at(last))
            rule_text = f"must be at most {count}, the number of rungs, got {self.halving.brackets}"
            raise RuleError(rule_text, "write fewer brackets, or more rungs", ("halving", "brackets"))


def _remedy_beyond(name: str, rule: Halving | Median, last: int) -> str:
    """Return what to write instead of rungs that no trial reaches."""
    if last == 1:
        return f"remove `{name}` under stopping, or train for more epochs"
    if isinstance(rule, Median):
        return "write min_epochs: 1"
    if rule.rungs is not None:
        return f"write rungs: {show([rung for rung in rule.rungs if rung < last] or [1])}"
    return f"write min_epochs: {rule.model_copy(update={'min_epochs': None}).settled(last).min_epochs}"

"""The input and output of a search method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from kerasweep.jobs.sweepfile.dimension import identity
from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState


@dataclass(frozen=True)
class Observation:
    """A trial as a search method sees it.

    Args:
        number: from 0.
        params: its values.
        state: its state.
        value: the sweep's metric at its best epoch, None if it has none that counts.
        failure: why it failed, if it did.
        known: whether its result may be learned from; its point counts as taken in any case.
        by_hand: whether the user chose the point.
    """

    number: int
    params: Params
    state: TrialState
    value: float | None = None
    failure: FailureClass | None = None
    known: bool = True
    by_hand: bool = False

    @cached_property
    def point(self) -> str:
        """The identity of its values."""
        return identity(self.params)

    def outcome(self, maximize: bool) -> float | None:
        """Return what a sampler learns from a finished trial, as a loss; None for nothing.

        A diverged trial is the worst possible: its values were at fault.
        """
        counted = self.state in COUNTED
        if not self.known or not self.state.final:
            return None
        if counted and self.value is not None and math.isfinite(self.value):
            return -self.value if maximize else self.value
        return math.inf if counted or self.failure is FailureClass.DIVERGED else None


@dataclass(frozen=True)
class Suggestion:
    """Values for the next trial, and the reason."""

    params: Params
    reason: str


class Sampler(Protocol):
    """A search method: a pure function of its settings and the trials so far.

    The same trials give the same suggestions in any process, at any time, whether requested singly or all at
    once.
    """

    def suggest(
        self,
        trials: Sequence[Observation],
        wanted: int,
        learned: int | None = None,
        earlier: Sequence[Observation] = (),
    ) -> list[Suggestion]:
        """Return the next trials, as far as they can be decided now.

        Args:
            trials: all trials of the sweep so far, by number, without gaps.
            wanted: how many more the budget allows.
            learned: how many of the first trials to learn from, if a stopping rule says so; all of them have
                ended.
            earlier: results of an earlier sweep to learn from, numbered below 0, oldest first.

        Returns:
            Suggestions for the numbers len(trials), len(trials) + 1 and so on: at most `wanted`, fewer if a
                decision depends on unfinished trials, or the space is exhausted.
        """
        ...

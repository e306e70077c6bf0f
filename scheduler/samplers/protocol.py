"""What a search method sees and gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.trial import COUNTED, FailureClass, TrialState


@dataclass(frozen=True)
class Observation:
    """A trial as a search method sees it.

    Args:
        number: from 0.
        params: its values.
        state: where it stands.
        value: the sweep's metric at its best epoch, None where it has none that counts.
        failure: why it failed, where it did.
        known: whether its result may be learned from; its point is taken in any case.
        by_hand: whether a person chose the point.
    """

    number: int
    params: Params
    state: TrialState
    value: float | None = None
    failure: FailureClass | None = None
    known: bool = True
    by_hand: bool = False

    def outcome(self, maximize: bool) -> float | None:
        """Return what a sampler learns of a trial that has ended, as a loss; None: nothing.

        One that diverged is the worst there can be: its values were at fault.
        """
        counted = self.state in COUNTED
        if not self.known or not self.state.final:
            return None
        if counted and self.value is not None and math.isfinite(self.value):
            return -self.value if maximize else self.value
        return math.inf if counted or self.failure is FailureClass.DIVERGED else None


@dataclass(frozen=True)
class Suggestion:
    """Values for the next trial, and why these."""

    params: Params
    reason: str


class Sampler(Protocol):
    """A search method: a pure function of its settings and the trials so far.

    The same trials give the same suggestions in any process, at any time, asked for singly or all at once.
    """

    def suggest(
        self, trials: Sequence[Observation], wanted: int, learned: int | None = None
    ) -> list[Suggestion]:
        """Return the next trials, as far as they can be decided now.

        Args:
            trials: all trials of the sweep so far, by number, without a gap.
            wanted: how many more the budget allows.
            learned: from how many of the first trials to learn, where a stopping rule says so; all of them
                have ended.

        Returns:
            Suggestions for the numbers len(trials), len(trials) + 1 and so on: `wanted` at most, fewer where
            a decision waits for a trial to end, or where the space is spent.
        """
        ...

"""What a search method sees and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kerasweep.jobs.sweepfile.space import Params
from kerasweep.jobs.trial import FailureClass, TrialState


@dataclass(frozen=True)
class Observation:
    """A trial as a search method sees it.

    Args:
        number: from 0.
        params: its values.
        state: where it stands.
        value: the sweep's metric at its best epoch, None where it has none that counts.
        failure: why it failed, where it did.
    """

    number: int
    params: Params
    state: TrialState
    value: float | None = None
    failure: FailureClass | None = None


@dataclass(frozen=True)
class Suggestion:
    """Values for the next trial, and why these."""

    params: Params
    reason: str


class Sampler(Protocol):
    """A search method: a pure function of its settings and the trials so far.

    The same trials give the same suggestions in any process, at any time, asked for singly or all at once.
    """

    def suggest(self, trials: Sequence[Observation], wanted: int) -> list[Suggestion]:
        """Return the next trials, as far as they can be decided now.

        Args:
            trials: all trials of the sweep so far, by number, without a gap.
            wanted: how many more the budget allows.

        Returns:
            Suggestions for the numbers len(trials), len(trials) + 1 and so on: `wanted` at most, fewer where
            a decision waits for a trial to end, or where the space is spent.
        """
        ...

"""The interface between a trial's training state and its engine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kerasweep.workers.trainer.state.run import TrialRun


class Interrupted(Exception):
    """The run was asked to stop, and left its epoch midway."""


class HandedOver(Exception):
    """A callback has changed the run: another engine has to train the epoch that has begun."""


class Engine(Protocol):
    """Trains epochs. Callbacks, checkpoints, the best model and the result belong to the run."""

    name: str

    def admit(self, run: TrialRun) -> AbstractContextManager[None]:
        """Admit the run, waiting if necessary; it is released when the context ends.

        Notes for the user on how the run is trained go into `run.notes`.

        Raises:
            Interrupted: the run was asked to stop while it waited.
        """

    def train_epoch(self, run: TrialRun) -> dict[str, float]:
        """Train epoch `run.epoch + 1` and validate; return the logs under Keras' names.

        Raises:
            Interrupted: the run was asked to stop and the epoch is incomplete.
            HandedOver: another engine has to train the epoch.
        """

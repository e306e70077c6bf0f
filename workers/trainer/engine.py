"""The seam between a trial's training state and what trains it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kerasweep.workers.trainer.state.run import TrialRun


class Interrupted(Exception):
    """The run was asked to stop, and left the epoch in which it was."""


class Engine(Protocol):
    """Trains epochs. Callbacks, checkpoints, the best model and the result are the run's own."""

    name: str

    def admit(self, run: TrialRun) -> AbstractContextManager[None]:
        """Give the run a place, waiting for one if need be; it is left when the context ends.

        What the user should know of how the run is trained goes into `run.notes`.

        Raises:
            Interrupted: the run was asked to stop while it waited.
        """

    def train_epoch(self, run: TrialRun) -> dict[str, float]:
        """Train epoch `run.epoch + 1` and validate; return the logs as Keras names them.

        Raises:
            Interrupted: the run was asked to stop and the epoch is not whole.
        """

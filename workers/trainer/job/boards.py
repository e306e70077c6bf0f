"""TensorBoard curves: losses, metrics, optional histograms, and the trial's row of HParams.

They are stored beside the artifacts, under `tensorboard/<sweep>/<trial>`: written in place if the artifacts
are a folder, else copied there when the attempt ends. They are for viewing only; nothing is read back from
them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from tensorboard.plugins.hparams import api as hparams  # type: ignore[import-untyped]

from kerasweep.jobs.store.artifacts import Artifacts


class Curves(keras.callbacks.TensorBoard):
    """Writes a trial's curves, epoch by epoch.

    Args:
        board: the destination.
        params: the trial's values.
        histograms: whether to write the weights' distribution after each epoch.
    """

    #: It does nothing within an epoch, so the trial can be packed.
    epochs_only = True
    #: Its attributes are folders and writers of this process.
    stateless = True

    def __init__(self, board: Board, params: Mapping[str, Any], histograms: bool) -> None:
        super().__init__(
            str(board.folder),
            histogram_freq=1 if histograms else 0,
            write_graph=False,
            write_steps_per_second=False,
            update_freq="epoch",
            profile_batch=0,
        )
        self._board = board
        plain = (bool, int, float, str)
        self._params = {
            name: value if isinstance(value, plain) else str(value) for name, value in params.items()
        }

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Write the trial's row of the HParams table."""
        super().on_train_begin(logs)
        with self._train_writer.as_default():
            hparams.hparams(self._params, trial_id=f"trial {self._board.trial}")  # else a hash

    def close(self) -> None:
        """Copy what was written to its destination.

        Raises:
            OutOfReach: the artifacts do not respond.
        """
        self._close_writers()
        self._board.publish()


class Board:
    """Where one attempt writes its curves.

    Args:
        artifacts: the artifacts beside which they are stored.
        sweep: the sweep's id.
        trial: from 0.
    """

    def __init__(self, artifacts: Artifacts, sweep: str, trial: int) -> None:
        self._artifacts = artifacts
        self.trial = trial
        self._key = f"tensorboard/{sweep}/{trial}"
        uri = artifacts.uri(self._key)
        self._temporary = not uri.startswith("file://")
        self.folder = Path(tempfile.mkdtemp() if self._temporary else uri.removeprefix("file://"))

    def publish(self) -> None:
        """Copy the curves beside the artifacts, unless they are already there.

        Raises:
            OutOfReach: the artifacts do not respond.
        """
        if not self._temporary:
            return
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                self._artifacts.put_file(f"{self._key}/{path.relative_to(self.folder)}", path)
        shutil.rmtree(self.folder, ignore_errors=True)

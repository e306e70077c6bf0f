"""What the host asks for: one attempt at a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.sweepfile.training import Training

_SPECS_KEPT = 8


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint to go on from."""

    key: str
    sha256: str
    epoch: int


@dataclass(frozen=True)
class Order:
    """One attempt at a trial.

    Args:
        run: the attempt's name on the pipe.
        sweep: the sweep's id.
        trial: from 0.
        attempt: from 1.
        seed: the trial's, 31 bits.
        params: the trial's values, flat.
        spec: the sweep file.
        bundle: the folder that holds the job's files.
        entry: the job's file in it.
        resume: checkpoints to try, the newest first.
        engine: auto, fit or pack.
        decisions: what was measured once for the sweep, by key.
        bar: a value worse than this is behind the trials whose models are kept; None where there are too few.
    """

    run: str
    sweep: str
    trial: int
    attempt: int
    seed: int
    params: Mapping[str, Any]
    spec: SweepSpec
    bundle: Path
    entry: str
    resume: tuple[CheckpointRef, ...] = ()
    engine: str = "auto"
    decisions: Mapping[str, Any] = field(default_factory=dict)
    bar: float | None = None

    @property
    def training(self) -> Training:
        """The training block with this trial's values."""
        return self.spec.training_for(dict(self.params))

    @property
    def job_params(self) -> dict[str, Any]:
        """The values that the job's functions take."""
        return {name: value for name, value in self.params.items() if not name.startswith("training.")}


@lru_cache(_SPECS_KEPT)
def _read_spec(text: str) -> SweepSpec:
    """Read a sweep file, which is the same for all trials of its sweep."""
    return SweepSpec.model_validate(json.loads(text))


def read_order(message: Mapping[str, Any]) -> Order:
    """Read the host's `train` message."""
    refs = [message.get("resume"), *message.get("resume_older", [])]
    return Order(
        run=message["run"],
        sweep=message["sweep"],
        trial=message["trial"],
        attempt=message["attempt"],
        seed=message["seed"],
        params=message["params"],
        spec=_read_spec(json.dumps(message["spec"])),
        bundle=Path(message["bundle"]),
        entry=message["entry"],
        resume=tuple(CheckpointRef(ref["key"], ref["sha256"], ref["epoch"]) for ref in refs if ref),
        engine=message.get("engine", "auto"),
        decisions=message.get("decisions", {}),
        bar=message.get("bar"),
    )

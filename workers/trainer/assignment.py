"""The host's order: one attempt at a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kerasweep.jobs.pipe import TrainOrder
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.sweepfile.training import Training

_SPECS_KEPT = 8


@dataclass(frozen=True)
class Assignment:
    """One attempt at a trial.

    Args:
        run: the attempt's name on the pipe.
        sweep: the sweep's id.
        name: the sweep's name.
        trial: from 0.
        attempt: from 1.
        seed: the trial's, 31 bits.
        params: the trial's values, flat.
        spec: the sweep file.
        bundle: the folder with the job's files.
        entry: the job's file in it.
        checkpoints: to resume from, newest first.
        engine: auto, fit or pack.
        decisions: choices measured once for the sweep, by key.
        bar: a value worse than this does not get its model kept; None while there are too few trials.
        rung: the epoch at which the run is held; None if it trains to its end.
        ends: whether it ends at its rung, with a result.
    """

    run: str
    sweep: str
    name: str
    trial: int
    attempt: int
    seed: int
    params: Mapping[str, Any]
    spec: SweepSpec
    bundle: Path
    entry: str
    checkpoints: tuple[ArtifactRef, ...] = ()
    engine: str = "auto"
    decisions: Mapping[str, Any] = field(default_factory=dict)
    bar: float | None = None
    rung: int | None = None
    ends: bool = False

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
    """Parse a sweep file, which is the same for all trials of its sweep."""
    return SweepSpec.model_validate(json.loads(text))


def read_order(order: TrainOrder) -> Assignment:
    """Read the host's order; its sweep file is parsed once for all trials of a sweep.

    Raises:
        ValidationError: the sweep file does not belong to this version.
    """
    return Assignment(
        run=order.run,
        sweep=order.sweep,
        name=order.name,
        trial=order.trial,
        attempt=order.attempt,
        seed=order.seed,
        params=order.params,
        spec=_read_spec(json.dumps(order.spec)),
        bundle=Path(order.bundle),
        entry=order.entry,
        checkpoints=order.checkpoints,
        engine=order.engine,
        decisions=order.decisions,
        bar=order.bar,
        rung=order.rung,
        ends=order.ends,
    )

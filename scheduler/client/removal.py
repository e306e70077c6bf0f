"""Removes sweeps and leftovers: `kerasweep rm` and `kerasweep gc`."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import InputError

if TYPE_CHECKING:
    from kerasweep.jobs.store.artifacts import Artifacts
    from kerasweep.scheduler.client.connections import Connections
    from kerasweep.scheduler.client.sweep import Sweep

log = logging.getLogger(__name__)

_ROOMS = ("sweeps", "tensorboard")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True)
class Removed:
    """What was removed of a sweep.

    Args:
        sweep: its id.
        name: its name.
        bytes: the size of its files.
        left: why its files stay, if they do.
    """

    sweep: str
    name: str
    bytes: int
    left: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict of plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Collected:
    """What a collection removed.

    Args:
        artifacts: the number of checkpoints, models and unfinished files.
        bundles: the number of bundles that no sweep needs.
        sweeps: the number of unrecorded sweeps whose files were removed.
        unknown: the number of such sweeps kept, since they may be another store's.
        left: why all files stay, if they do.
    """

    artifacts: int
    bundles: int
    sweeps: int
    unknown: int
    left: str | None

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict of plain values."""
        return asdict(self)


def span_s(text: str) -> float:
    """Convert a time span such as 30d, 12h or 2w to seconds.

    Raises:
        InputError: it is not a time span.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    if not found:
        raise InputError(f"a span of time must be a number and s, m, h, d or w, got {text!r}; write 30d")
    return float(found[1]) * _UNITS_S[found[2]]


def remove(client: Connections, sweep: Sweep, *, keep_best: bool = False) -> Removed:
    """Remove a sweep that has ended: first from the records, then its files.

    Args:
        client: connections to the store.
        sweep: the sweep.
        keep_best: keep its records and the model of its best trial.

    Raises:
        InputError: it has not ended.
        OutOfReach: the store or the artifacts do not respond; `kerasweep gc` finds what is left.
    """
    left = client.ownership.doubt()
    if keep_best:
        return Removed(sweep.id, sweep.name, 0 if left else _drop_all_but_best(client, sweep), left)
    client.records.forget_sweep(sweep.id)
    freed = 0 if left else sum(client.artifacts.delete_below(f"{room}/{sweep.id}") for room in _ROOMS)
    if not left:
        _drop_bundles(client)
    return Removed(sweep.id, sweep.name, freed, left)


def collect(client: Connections, *, unknown: bool = False) -> Collected:
    """Delete what nothing needs: what a scheduler would, bundles without a sweep, unrecorded sweeps.

    Args:
        client: connections to the store.
        unknown: delete unrecorded sweeps even if the artifacts may also be another store's.

    Raises:
        OutOfReach: the store or the artifacts do not respond.
    """
    from kerasweep.scheduler.deciding.prune import Pruner

    settings = client.settings
    left = client.ownership.doubt()
    if left:
        client.records.compact()
        return Collected(0, 0, 0, 0, left)
    graces = {"leftover_s": settings.orphan_grace_s, "grace_s": settings.delete_grace_s}
    pruned = Pruner(client.records, client.artifacts, client.ownership, **graces).round()
    lost = _sweeps_on_no_record(client)
    dropped = lost if unknown or settings.together else []
    for room in _ROOMS:
        for sweep in dropped:
            client.artifacts.delete_below(f"{room}/{sweep}")
    bundles = _drop_bundles(client)
    client.records.compact()
    return Collected(pruned, bundles, len(dropped), len(lost) - len(dropped), None)


def size_of(folder: Path) -> int:
    """Return the disk space that a folder uses, in bytes."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(place, name).lstat().st_blocks * 512
            except OSError:
                continue
    return total


def _drop_all_but_best(client: Connections, sweep: Sweep) -> int:
    if not sweep.state.final:
        raise InputError(
            f"a sweep must have ended to be cleaned up, got sweep {sweep.name}, which is {sweep.state}\n"
            f"`kerasweep cancel {sweep.handle}` ends it first"
        )
    best = sweep.best_record()
    refs = [ref for of_trial in client.records.artifacts(sweep.id).values() for ref in of_trial]
    kept = {ref.key for ref in refs if best is not None and _is_model_of(ref.key, ref.kind, best.number)}
    going = [ref for ref in refs if ref.key not in kept]
    client.records.forget_artifacts([ref.key for ref in going])
    for ref in going:
        client.artifacts.delete(ref.key)
    client.artifacts.drop_empty_folders(f"sweeps/{sweep.id}")
    return sum(ref.bytes for ref in going) + client.artifacts.delete_below(f"tensorboard/{sweep.id}")


def _is_model_of(key: str, kind: str, trial: int) -> bool:
    return kind == "model" and f"/trials/{trial}/" in key


def _drop_bundles(client: Connections) -> int:
    """Delete the bundles that no sweep needs; a newly written one belongs to a sweep about to be recorded."""
    if not _is_alone(client.artifacts):
        return 0
    old = [
        key
        for key in client.artifacts.keys("bundles")
        if client.artifacts.age_s(key) >= client.settings.delete_grace_s
    ]
    used = client.records.bundles_in_use()  # read after the ages were
    going = [key for key in old if key not in used]
    for key in going:
        client.artifacts.delete(key)
    return len(going)


def _sweeps_on_no_record(client: Connections) -> list[str]:
    grace_s = client.settings.delete_grace_s
    found = _old_sweeps(client.artifacts, grace_s)
    known = {sweep.id for sweep in client.records.sweeps()}  # read after the files were
    return sorted(found - known) if _is_alone(client.artifacts) else []


def _old_sweeps(artifacts: Artifacts, grace_s: float) -> set[str]:
    keys: dict[str, list[str]] = {}
    for room in _ROOMS:
        for key in artifacts.keys(room):
            keys.setdefault(key.split("/")[1], []).append(key)
    return {sweep for sweep, some in keys.items() if _all_old(artifacts, some, grace_s)}


def _all_old(artifacts: Artifacts, keys: Collection[str], grace_s: float) -> bool:
    return all(artifacts.age_s(key) >= grace_s for key in keys)


def _is_alone(artifacts: Artifacts) -> bool:
    """Whether no other store has marked these artifacts."""
    return len(artifacts.keys("stores")) <= 1

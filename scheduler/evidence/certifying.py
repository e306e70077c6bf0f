"""Trains the best variants of a sweep again under fresh seeds, as a sweep of its own.

That sweep tries these points alone (`start`), each under the same seeds (`repeats`), which derive from the
certified sweep's seed. So asking again finds it, and `replay` checks it like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.models import SweepRecord, TrialRecord
from kerasweep.jobs.sweepfile.dimension import identity, is_dimension
from kerasweep.jobs.sweepfile.spec import LIMIT_TRIALS, SweepSpec, parse_spec
from kerasweep.jobs.trial import SweepState
from kerasweep.jobs.variants import ranked_variants

if TYPE_CHECKING:
    from kerasweep.scheduler.client.connections import Connections

_SUFFIX, _LONGEST_NAME = "-certify", 100


def certify(client: Connections, sweep: SweepRecord, top: int, count: int) -> SweepRecord:
    """Submit the sweep that certifies another, unless there is one; return it.

    Args:
        client: connections to the store.
        sweep: the sweep to certify; at least one of its trials has a value.
        top: how many of its variants.
        count: how many seeds.

    """
    trials = best_trials(sweep.spec, client.records.trials(sweep.id), top)
    found = existing(client.records.sweeps(), sweep.id, [one.number for one in trials], count)
    return found or _submit(client, sweep, trials, count)


def best_trials(spec: SweepSpec, trials: Sequence[TrialRecord], top: int) -> list[TrialRecord]:
    """Return the best variants of a sweep, best first: the best trial of each, with the variant's value."""
    found: dict[str, TrialRecord] = {}
    for one in ranked_variants(spec, trials):
        if one.best is not None and one.value is not None and math.isfinite(one.value):
            found.setdefault(identity(dict(one.params)), replace(trials[one.best], value=one.value))
        if len(found) == top:
            break
    return list(found.values())


def existing(
    sweeps: Sequence[SweepRecord], certified: str, trials: Sequence[int], count: int
) -> SweepRecord | None:
    """Return the newest sweep that trains these trials again, if it has not failed or been cancelled."""
    for one in sweeps:
        origin, lost = one.certifies, one.state in (SweepState.FAILED, SweepState.CANCELLED)
        if origin is None or lost or one.spec.times != count:
            continue
        if origin["sweep"] == certified and origin["trials"] == list(trials):
            return one
    return None


def spec_of(spec: SweepSpec, trials: Sequence[TrialRecord], count: int) -> SweepSpec:
    """Return the sweep file that trains these trials again, and nothing else, to their ends."""
    from kerasweep.jobs.seeds import fresh_seed

    written = spec.model_dump(mode="json")
    changes = {
        "name": spec.name[: _LONGEST_NAME - len(_SUFFIX)] + _SUFFIX,
        "method": "random",
        "parameters": _without_points(written["parameters"]),
        "training": _without_points(written["training"]),
        "stopping": None,
        "start": [dict(one.params) for one in trials],
        "repeats": [fresh_seed(spec.seed, repeat) for repeat in range(count)],
        "budget": {"max_trials": len(trials) * count},
    }
    return parse_spec(written | changes)


def _submit(
    client: Connections, sweep: SweepRecord, trials: Sequence[TrialRecord], count: int
) -> SweepRecord:
    from kerasweep.jobs.queue.hints import new_sweep_id
    from kerasweep.scheduler.deciding.submission import begin, record

    if client.queue:
        client.queue.ping()
    spec = spec_of(sweep.spec, trials, count)
    bundle, entry = sweep.code_of(trials[0])
    origin = {
        "sweep": sweep.id,
        "name": sweep.name,
        "trials": [one.number for one in trials],
        "values": [one.value for one in trials],
    }
    known = {name: given for name, given in sweep.source.items() if name not in ("bundles", "warm")}
    made = replace(
        sweep,
        id=new_sweep_id(),
        name=spec.name,
        state=SweepState.RUNNING,
        spec=spec,
        max_trials=spec.planned_trials(),
        entry=entry,
        bundle=bundle,
        source={**known, "certifies": origin},
        message="",
        created_at=0.0,
        finished_at=None,
    )
    record(client.records, made)
    begin(client.records, client.queue, made)
    return client.records.sweep(made.id)


def _without_points(written: Any) -> Any:
    """Return what a sweep file has under `parameters` or `training`, without the `points` of a grid."""
    if not isinstance(written, dict):
        return written
    if is_dimension(written):
        return {name: one for name, one in written.items() if name != "points"}
    return {name: _without_points(one) for name, one in written.items()}


def expect_numbers(sweep: SweepRecord, top: int, count: int) -> None:
    """Check what is asked for.

    Raises:
        InputError: a number is out of range, or the sweep certifies another itself.
    """
    if sweep.certifies is not None:
        raise InputError(
            f"only a sweep that searches is certified; {sweep.name} certifies {sweep.certifies['name']}\n"
            f"`kerasweep certify {sweep.name}` shows what it says"
        )
    for name, given in (("top", top), ("seeds", count)):
        if given < 1:
            raise InputError(f"{name} must be at least 1, got {given}; such as top 3, seeds 10")
    if top * count > LIMIT_TRIALS:
        raise InputError(
            f"top times seeds must be at most {LIMIT_TRIALS:,} trials, got {top} times {count}\n"
            "Lower one of them"
        )

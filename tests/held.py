"""Sweeps with a stopping rule, trained in the records without any trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from recorded import a_sweep

from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Claim, EpochRecord, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.spec import parse_spec
from kerasweep.jobs.trial import TrialKey, TrialState
from kerasweep.scheduler.deciding.advance import advance

LEASE_S = 60.0
HALVING = {"halving": {"rungs": [1, 3], "cohort": 6}}


def begin(records: Records, sweep: str = "abcd1234", **changes: Any) -> str:
    """Record a sweep with a stopping rule, and decide its first trials."""
    record = a_sweep(sweep)
    written = record.spec.model_dump(mode="json")
    written |= {"stopping": HALVING, "budget": {"max_trials": 20}} | changes
    spec = parse_spec(written)
    records.create_sweep(replace(record, spec=spec, max_trials=spec.planned_trials()))
    advance(records, sweep)
    return sweep


def loss(number: int, epoch: int) -> float:
    """Return a decreasing loss that no other trial has."""
    chance = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:4], "big")
    return chance / 2**32 / epoch + number * 1e-6


def reach(records: Records, claim: Claim) -> None:
    """Record a claimed trial as trained to its rung, or to its end, as a worker would."""
    until = claim.rung or 9
    value = loss(claim.key.trial, until)
    state = TrialState.WAITING if claim.rung else TrialState.COMPLETED
    state = TrialState.STOPPED if claim.ends else state
    result = Result(state, value, until, until, {"val_loss": value}, f"{claim.key.trial:064d}")
    epochs = tuple(EpochRecord(n, {"val_loss": loss(claim.key.trial, n)}, 0.1) for n in range(1, until + 1))
    if state is not TrialState.WAITING:
        records.finish(claim.key, result, Progress(claim.key, epochs))
        return
    checkpoint = ArtifactRef("checkpoint", f"{claim.key}-{until}", "c" * 64, 1, until)
    records.hold(claim.key, result, checkpoint, Progress(claim.key, epochs))
    records.hold(claim.key, result, checkpoint, Progress(claim.key))  # its answer got lost


def train(records: Records, sweep: str, slots: int = 1, pick: Callable[[Sequence[int]], int] = min) -> None:
    """Train queued trials until there are none; `pick` chooses which running trial ends next."""
    running: dict[int, Claim] = {}
    while True:
        queued = [one.number for one in records.trials(sweep, [TrialState.QUEUED])]
        for number in queued[: slots - len(running)]:
            claim = records.claim(TrialKey(sweep, number), "worker", LEASE_S)
            assert claim is not None
            running[number] = claim
        if not running:
            return
        reach(records, running.pop(pick(sorted(running))))
        advance(records, sweep)

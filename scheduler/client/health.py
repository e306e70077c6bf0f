"""Checks whether a worker or scheduler on this machine is working, for the health checks of containers."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from kerasweep.jobs.errors import KerasweepError
from kerasweep.jobs.kernel import ProcessKind
from kerasweep.jobs.settings import Settings

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import ProcessRecord
    from kerasweep.jobs.store.records import Records

# A worker flushes its ledger at least every 10 s; a scheduler writes once in each reconciling round.
_WORKER_S = 40.0
_ROUNDS = 4


def healthy(records: Records, settings: Settings, part: str) -> str:
    """Report what a worker or scheduler on this machine has done lately.

    Health is judged by work done: a worker's ledger reaches the store, it has a live trainer, and it takes
    hints when it has free slots; a scheduler reconciles.

    Args:
        records: the store's.
        settings: the intervals.
        part: `worker` or `scheduler`.

    Raises:
        KerasweepError: none on this machine did.
        OutOfReach: the store does not respond.
    """
    within_s = _WORKER_S if part == "worker" else max(_WORKER_S, _ROUNDS * settings.reconcile_s)
    found = records.alive(ProcessKind(part), within_s)
    here = [one for one in found if one.facts.get("host") == platform.node()]
    if not here:
        raise KerasweepError(
            f"no {part} of {platform.node()} has written to the store within {within_s:g} s\n"
            f"Check its log, or start it: kerasweep {part}"
        )
    ailing = [ailment for one in here if (ailment := _ailment(one, settings))]
    if len(ailing) == len(here):
        raise KerasweepError(ailing[0])
    count = f"{len(here) - len(ailing)} of {len(here)}"
    return f"{count} on {platform.node()} did their work, the last {min(one.age_s for one in here):.0f} s ago"


def _ailment(one: ProcessRecord, settings: Settings) -> str:
    stalled_s = float(one.facts.get("stalled_s", 0))
    if stalled_s > settings.stall_s:
        told = f"{one.id} has free slots and has taken no trial for {stalled_s:.0f} s, though some are queued"
        return f"{told}\nRestart it"
    if one.facts.get("ready", 1) == 0:
        return f"{one.id} has no live trainer\nCheck its log"
    return ""

"""Decides what a failed attempt leads to, by the table of failure classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerasweep.jobs.sweepfile.spec import Retries
from kerasweep.jobs.trial import HOPELESS, UNCOUNTED, Failure, FailureClass, TrialState


@dataclass(frozen=True)
class Verdict:
    """The trial's next state, why, and what else changes in its row."""

    state: TrialState
    reason: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A trial's history.

    Args:
        pack_limit: the widest pack that its attempt was allowed; None for any.
        failures: the number of its failures that count.
        alike: the number of its earlier attempts that failed with this class without counting.
    """

    pack_limit: int | None
    failures: int
    alike: int = 0


def judge(failure: Failure, pack: int, record: Record, retries: Retries) -> Verdict:
    """Decide what a failure leads to.

    When a trainer dies under a pack, it is unknown which trial killed it, so its trials are retried in packs
    of half the width, without counting; the width only falls, so this ends.

    Args:
        failure: what went wrong.
        pack: how many trials trained together.
        record: the trial's history.
        retries: how often it may fail.
    """
    told = f"{failure.cls}: {failure.message}"
    final = {"failure_class": failure.cls, "failure_message": failure.message}
    if failure.cls in UNCOUNTED:
        return _judge_uncounted(told, record.alike + 1, retries.bound_of(failure.cls), final)
    if failure.cls in HOPELESS:
        return Verdict(TrialState.FAILED, f"{told}; a retry would not fix it", final)
    width = min(pack, record.pack_limit or pack)
    if width > 1:
        return Verdict(
            TrialState.QUEUED, f"{told}; tried again in a pack of {width // 2}", {"pack_limit": width // 2}
        )
    counted, max_failures = record.failures + 1, retries.max_failures
    if failure.cls is FailureClass.MEMORY:
        return Verdict(TrialState.FAILED, f"{told}; it trained alone", {**final, "failures": counted})
    if counted > max_failures:
        return Verdict(
            TrialState.FAILED,
            f"{told}; failure {counted} of {max_failures} allowed",
            {**final, "failures": counted},
        )
    return Verdict(
        TrialState.QUEUED,
        f"{told}; tried again, failure {counted} of {max_failures} allowed",
        {"failures": counted},
    )


def _judge_uncounted(told: str, count: int, bound: int, final: Mapping[str, Any]) -> Verdict:
    """Retry a trial that is not at fault, up to a limit."""
    if count > bound:
        return Verdict(
            TrialState.FAILED, f"{told}; it has happened {count} times, {bound} are allowed", final
        )
    return Verdict(TrialState.QUEUED, f"{told}; tried again, not counted, {count} of {bound} allowed")

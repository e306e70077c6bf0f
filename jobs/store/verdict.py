"""What a failed attempt leads to, by the table of failure classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerasweep.jobs.trial import HOPELESS, UNCOUNTED, Failure, FailureClass, TrialState


@dataclass(frozen=True)
class Verdict:
    """Where the trial goes, why, and what else changes in its row."""

    state: TrialState
    reason: str
    changes: Mapping[str, Any] = field(default_factory=dict)


def judge(failure: Failure, pack: int, pack_limit: int | None, failures: int, max_failures: int) -> Verdict:
    """Decide what a failure leads to.

    A trainer that dies under a pack says not which trial killed it, so its trials are tried again in packs of
    half the width, at no charge; the width only falls, so this ends.

    Args:
        failure: what went wrong.
        pack: how many trials trained together.
        pack_limit: the widest pack that this attempt was allowed.
        failures: how many failures the trial has had that count.
        max_failures: how many of them it may have.
    """
    told = f"{failure.cls}: {failure.message}"
    if failure.cls in UNCOUNTED:
        return Verdict(TrialState.QUEUED, f"{told}; tried again, not counted")
    final = {"failure_class": failure.cls, "failure_message": failure.message}
    if failure.cls in HOPELESS:
        return Verdict(TrialState.FAILED, f"{told}; a retry would not mend it", final)
    width = min(pack, pack_limit or pack)
    if width > 1:
        return Verdict(
            TrialState.QUEUED, f"{told}; tried again in a pack of {width // 2}", {"pack_limit": width // 2}
        )
    counted = failures + 1
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

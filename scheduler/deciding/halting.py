"""What ends a sweep early: spent hours, spent failures, or first trials that all fail the same way.

`advance` acts on it, and `control` refuses requests that it would undo at once.
"""

from __future__ import annotations

import re

from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.trial import COUNTED, Failure, FailureClass, TrialState
from kerasweep.jobs.variants import variants_of
from kerasweep.scheduler.deciding.remembering import Memory
from kerasweep.scheduler.deciding.suspicion import only_one_says
from kerasweep.scheduler.stopping import StoppingRule, patience_for, rule_for

#: If this many first trials all fail the same way, the sweep halts.
_SAME_FAILURES = 3
_PATIENCE_SPENT, _HOURS_SPENT = "patience spent", "hours spent"


def hours_spent(decision: Decision) -> str | None:
    """Return why no further trial may start, if `budget.max_hours` is spent."""
    hours = decision.sweep.spec.budget.max_hours
    if hours is None or decision.now <= decision.sweep.created_at + hours * 3600.0:
        return None
    return f"budget.max_hours = {hours} is spent"


def note_hours_spent(decision: Decision, reason: str) -> None:
    """Write once to the journal that the spent hours have cut trials short, or off."""
    planned, counts = decision.sweep.max_trials, decision.counts()
    cut = sum(counts.values()) < planned or not all(state.final for state in counts)
    if cut and decision.noted(_HOURS_SPENT) is None:
        decision.note(_HOURS_SPENT, f"{reason}; of {planned} planned, it starts no further trial")


def failures_spent(decision: Decision) -> str | None:
    """Return a message if more trials have failed than `budget.max_failed` allows."""
    allowed = decision.sweep.spec.budget.max_failed
    if allowed is None or decision.counts().get(TrialState.FAILED, 0) <= allowed:
        return None
    failures = [trial.failure for trial in decision.failed()]
    counted = [one for one in failures if one is not None and one.cls is not FailureClass.DIVERGED]
    if len(counted) <= allowed:
        return None
    return (
        f"{len(counted)} trials have failed, budget.max_failed is {allowed}; the last: {counted[-1].message}"
    )


def open_until(decision: Decision, memory: Memory, rule: StoppingRule | None) -> int:
    """Return the number (exclusive) up to which variants may start; plan no more once patience is used up.

    Without repeats, variants are trials.
    """
    spec = decision.sweep.spec
    patience, planned = patience_for(spec, rule), decision.sweep.max_trials // spec.times
    if not patience.bounds:
        return planned
    settled = decision.settled() // spec.times
    last = patience.ends_at(memory.values(decision, settled), planned) if patience.patience else None
    if last is not None and last < planned:
        decision.set_max_trials(last * spec.times)
        what = "trials" if spec.times == 1 else f"variants of {spec.times} trials"
        cause = f"no improvement for {patience.patience} {what} (stopping.patience)"
        decision.note(_PATIENCE_SPENT, f"{cause}; of {planned} planned, it ends after {last}")
    return patience.open_until(settled, planned if last is None else last)


def early_end(decision: Decision) -> str:
    """Return in words that patience or spent hours have ended the sweep early; empty if they have not."""
    event, reason = decision.noted(_PATIENCE_SPENT, _HOURS_SPENT, "extended") or ("", "")
    cause, _, numbers = reason.partition("; ")
    found = re.findall(r"\d+", numbers)
    if event == _HOURS_SPENT and found:
        counts = decision.counts()
        valued = sum(counts.get(state, 0) for state in COUNTED)
        return f"ended early: {cause}; of {found[0]} planned trials, {valued} reached a value"
    if event != _PATIENCE_SPENT or len(found) != 2:
        return ""
    planned, last = found
    what = "trials" if decision.sweep.spec.times == 1 else "variants"
    return f"ended after {last} of {planned} {what}: {cause}"


def patience_spent(decision: Decision) -> str | None:
    """Return why no further trial may start, if `stopping.patience` is used up."""
    spec = decision.sweep.spec
    patience = patience_for(spec, rule_for(spec))
    values = _values(decision, decision.settled() // spec.times) if patience.patience else []
    if patience.ends_at(values, decision.sweep.max_trials // spec.times) is None:
        return None
    what = "trials" if spec.times == 1 else "variants"
    return f"stopping.patience = {patience.patience} is used up: no improvement for that many {what}"


def _values(decision: Decision, count: int) -> list[float | None]:
    """Return the values of the first variants, which have ended."""
    spec = decision.sweep.spec
    if spec.times == 1:
        return decision.values(count)
    return [one.value for one in variants_of(spec, decision.trials()[: count * spec.times])]


def common_failure(decision: Decision, memory: Memory | None = None) -> str | None:
    """Return the message of the first trials' common failure, if there is one.

    A trial that diverged says nothing about the others: its values were at fault. Nor does a failure that
    only one worker has seen while another can be asked.

    Args:
        decision: the sweep under its lock.
        memory: what this process remembers of it, if it does.
    """
    if memory is not None and memory.began_well:
        return None
    wanted = min(_SAME_FAILURES, decision.sweep.max_trials)
    if not wanted or decision.counts().get(TrialState.FAILED, 0) < wanted:
        return None
    first = decision.first_failed(wanted)
    if memory is not None and not decision.counts().get(TrialState.CANCELLED):
        memory.began_well = not first  # a trial that counts ended before, which nothing can change
    failures = [trial.failure for trial in first if trial.failure]
    if len(failures) < wanted or any(failure.cls is FailureClass.DIVERGED for failure in failures):
        return None
    if len({_kind(failure) for failure in failures}) > 1:
        return None
    return None if only_one_says(decision, [trial.number for trial in first]) else failures[0].message


def _kind(failure: Failure) -> tuple[FailureClass, str]:
    """Return what two failures of one cause have in common: the rule, without the numbers in it."""
    return failure.cls, re.sub(r"\d+", "#", failure.message.split(";")[0])

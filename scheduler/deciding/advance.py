"""A sweep's next decisions, from its records alone.

Everything is read under the sweep's lock and written with its reason in the same transaction; nothing is
kept in memory. Any number of processes may advance the same sweep: the second finds nothing to do.

Rules that stop a trial because others do better (successive halving, the median of the others) join in
`_advance`: they read the curves, and `decision.ask(Answer.STOP, number, reason)` ends the trial after its
epoch as `stopped`, with the value that it reached, which counts. A spent `budget.max_hours` ends running
trials that way. Until there is such a rule no curve is read here.
"""

from __future__ import annotations

import logging
import re

from kerasweep.jobs import seeds
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.store.models import NewTrial, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.trial import COUNTED, Answer, Failure, FailureClass, SweepState, TrialState
from kerasweep.scheduler.samplers import Observation, sampler_for

log = logging.getLogger(__name__)

#: So many first trials that all fail the same way halt a sweep.
_SAME_FAILURES = 3


def advance(records: Records, sweep: str) -> None:
    """Make a sweep's next decisions: new trials, a halt, an end.

    Raises:
        NotFound: no such sweep.
        OutOfReach: the store does not answer; nothing was decided.
    """
    with records.deciding(sweep) as decision:
        if decision.sweep.state is SweepState.RUNNING:
            _advance(decision)


def send_hints(
    records: Records, queue: HintQueue, sweep: str | None = None, older_than_s: float | None = None
) -> int:
    """Send the hints that are due, and record that they were sent; return how many.

    Raises:
        OutOfReach: Redis or the store does not answer; what was not recorded is sent again later.
    """
    sent = 0
    while hints := records.unhinted(older_than_s, sweep):
        queue.send(hints)
        records.mark_hinted(hint.key for hint in hints)
        sent += len(hints)
    return sent


def _advance(decision: Decision) -> None:
    if message := _halting_failure(decision):
        _halt(decision, message)
        return
    if _out_of_time(decision):
        _close(decision)
    counts = decision.counts()
    added = _suggest(decision, sum(counts.values()))
    active = sum(count for state, count in counts.items() if not state.final)
    if not active and not added:
        _conclude(decision, counts)


def _suggest(decision: Decision, total: int) -> int:
    """Ask the search method for the trials that it can decide on now; return how many were added."""
    wanted = decision.sweep.max_trials - total
    if wanted <= 0:
        return 0
    spec = decision.sweep.spec
    observations = [_observed(trial) for trial in decision.trials()]
    suggestions = sampler_for(spec).suggest(observations, wanted)
    decision.add_trials(
        [
            NewTrial(number, suggestion.params, seeds.trial_seed(spec.seed, number), suggestion.reason)
            for number, suggestion in enumerate(suggestions, start=total)
        ]
    )
    return len(suggestions)


def _observed(trial: TrialRecord) -> Observation:
    return Observation(
        trial.number,
        dict(trial.params),
        trial.state,
        trial.value if trial.state in COUNTED else None,
        trial.failure.cls if trial.failure and trial.state is TrialState.FAILED else None,
    )


def _halting_failure(decision: Decision) -> str | None:
    """Return the message of the first trials' common failure, if there is one.

    A trial that diverged says nothing about the others: its values were at fault.
    """
    wanted = min(_SAME_FAILURES, decision.sweep.max_trials)
    first = decision.first_ended(wanted)
    failures = [trial.failure for trial in first if trial.failure and trial.state is TrialState.FAILED]
    if len(failures) < wanted or any(failure.cls is FailureClass.DIVERGED for failure in failures):
        return None
    return failures[0].message if len({_kind(failure) for failure in failures}) == 1 else None


def _kind(failure: Failure) -> tuple[FailureClass, str]:
    """Return what two failures of one cause share: the rule that was broken, whatever the numbers in it."""
    return failure.cls, re.sub(r"\d+", "#", failure.message.split(";")[0])


def _halt(decision: Decision, message: str) -> None:
    decision.move(TrialState.CANCELLED, "the sweep was halted")
    decision.set_state(SweepState.FAILED, "the first trials all failed the same way", message)


def _out_of_time(decision: Decision) -> bool:
    hours = decision.sweep.spec.budget.max_hours
    return hours is not None and decision.now > decision.sweep.created_at + hours * 3600.0


def _close(decision: Decision) -> None:
    """Begin no further trial, and let the running ones end with the value that they have reached."""
    reason = f"budget.max_hours = {decision.sweep.spec.budget.max_hours} is spent"
    decision.move(TrialState.CANCELLED, reason)
    decision.ask(Answer.STOP, reason=reason)
    decision.set_max_trials(sum(decision.counts().values()))


def _conclude(decision: Decision, counts: dict[TrialState, int]) -> None:
    if any(counts.get(state) for state in COUNTED):
        decision.set_state(SweepState.COMPLETED, "every trial has ended")
        return
    failed = next((trial.failure for trial in decision.trials() if trial.failure), None)
    message = failed.message if failed else "every trial was cancelled"
    state = SweepState.FAILED if failed else SweepState.CANCELLED
    decision.set_state(state, "no trial reached a value", message)

"""A sweep's next decisions, from its records alone.

Everything is decided under the sweep's lock and written with its reason in the same transaction; nothing is
kept in memory. Any number of processes may advance the same sweep: the second finds nothing to do.

A search method may think for longer than a transaction may last, so it thinks outside the lock, on what was
read under it (a `Basis`). What it suggests is written only where the results that it saw still stand.

Rules that stop a trial because others do better (successive halving, the median of the others) join in
`_decide`: they read the curves, and `decision.ask(Answer.STOP, number, reason)` ends the trial after its
epoch as `stopped`, with the value that it reached, which counts. A spent `budget.max_hours` ends running
trials that way. Until there is such a rule no curve is read here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from kerasweep.jobs import seeds
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.store.models import NewTrial, TrialRecord
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, Answer, SweepState, TrialState
from kerasweep.scheduler.deciding.halting import common_failure, failures_spent, hours_spent
from kerasweep.scheduler.deciding.suspicion import judge_workers
from kerasweep.scheduler.samplers import Observation, Suggestion, sampler_for

log = logging.getLogger(__name__)

#: How often the search method thinks again in one call because its basis changed meanwhile.
_MOST_THOUGHTS = 5


@dataclass(frozen=True)
class Basis:
    """What the search method is asked: suggestions for up to `wanted` more trials, from the trials so far."""

    spec: SweepSpec
    trials: tuple[Observation, ...]
    wanted: int

    def suggest(self) -> Thought:
        """Ask the search method."""
        return Thought(self, sampler_for(self.spec).suggest(self.trials, self.wanted))

    def still_holds(self, now: Basis) -> bool:
        """Tell whether suggestions made on this basis may be written on the basis that is there now.

        A suggestion rests on the trials that had ended and on the values of all others. A trial that ended
        since changes no suggestion that was made: a search method that needs its result suggests nothing
        before it is there.
        """
        if len(now.trials) != len(self.trials) or now.wanted < self.wanted:
            return False
        return all(
            then == since for then, since in zip(self.trials, now.trials, strict=True) if then.state.final
        )

    def is_outdated(self, now: Basis) -> bool:
        """Tell whether a trial has ended since, so that there may be more to suggest."""
        return sum(one.state.final for one in now.trials) > sum(one.state.final for one in self.trials)


@dataclass(frozen=True)
class Thought:
    """What the search method suggests on a basis."""

    basis: Basis
    suggestions: Sequence[Suggestion]


def advance(records: Records, sweep: str) -> None:
    """Make a sweep's next decisions: new trials, a halt, an end.

    Raises:
        NotFound: no such sweep.
        OutOfReach: the store does not answer; nothing was decided.
    """
    thought: Thought | None = None
    for _ in range(_MOST_THOUGHTS):
        with records.deciding(sweep) as decision:
            basis = _decide(decision, thought) if decision.sweep.state is SweepState.RUNNING else None
        if basis is None:
            return
        thought = basis.suggest()
    log.warning("sweep %s changes faster than its search method thinks; it is advanced again later", sweep)


def send_hints(records: Records, queue: HintQueue, sweep: str | None = None) -> None:
    """Send the hints of queued trials that have had none, and record that they were sent.

    Raises:
        OutOfReach: Redis or the store does not answer; what was not recorded is sent again later.
    """
    while hints := records.unhinted(sweep=sweep):
        queue.send(hints)
        records.mark_hinted(hints)


def _decide(decision: Decision, thought: Thought | None) -> Basis | None:
    """Decide what can be decided now; return what the search method has to think about first, if anything.

    Args:
        decision: the sweep under its lock; it is running.
        thought: what the search method suggested on what the last call returned.
    """
    judge_workers(decision)
    if message := common_failure(decision):
        _halt(decision, "the first trials all failed the same way", message)
        return None
    if message := failures_spent(decision):
        _halt(decision, "the failure budget is spent", message)
        return None
    if reason := hours_spent(decision):
        _close(decision, reason)
    counts = decision.counts()
    wanted = decision.sweep.max_trials - sum(counts.values())
    added = 0
    if wanted > 0:
        basis = Basis(decision.sweep.spec, tuple(map(_observed, decision.trials())), wanted)
        if thought is None or not thought.basis.still_holds(basis):
            return basis
        added = _add(decision, thought)
        if not added and thought.basis.is_outdated(basis):
            return basis
    if not added and all(state.final for state in counts):
        _conclude(decision, counts)
    return None


def _add(decision: Decision, thought: Thought) -> int:
    """Queue the suggested trials; return how many."""
    spec, first = decision.sweep.spec, len(thought.basis.trials)
    decision.add_trials(
        [
            NewTrial(number, suggestion.params, seeds.trial_seed(spec.seed, number), suggestion.reason)
            for number, suggestion in enumerate(thought.suggestions, start=first)
        ]
    )
    return len(thought.suggestions)


def _observed(trial: TrialRecord) -> Observation:
    return Observation(
        trial.number,
        dict(trial.params),
        trial.state,
        trial.value if trial.state in COUNTED else None,
        trial.failure.cls if trial.failure and trial.state is TrialState.FAILED else None,
    )


def _halt(decision: Decision, reason: str, message: str) -> None:
    decision.move(TrialState.CANCELLED, "the sweep was halted")
    decision.set_state(SweepState.FAILED, reason, message)


def _close(decision: Decision, reason: str) -> None:
    """Begin no further trial, and let the running ones end with the value that they have reached."""
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

"""A sweep's next decisions, from its records alone.

Everything is decided under the sweep's lock and written with its reason in the same transaction; a process
remembers only what cannot change (see `remembering`). Any number of processes may advance the same sweep: the
second finds nothing to do.

A search method may compute for longer than a transaction may last, so it runs outside the lock, on what was
read under it (a `Basis`). Its suggestions are written only if the results that they are based on are
unchanged.

A stopping rule decides which of the trials waiting at a rung continue, and how many may be under way. A spent
`budget.max_hours` ends running trials after their epoch, with the value that they reached.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import is_not

from kerasweep.jobs.errors import InputError, NotFound
from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.store.models import NewTrial
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import COUNTED, Answer, SweepState, TrialState
from kerasweep.jobs.variants import seed_of
from kerasweep.scheduler.deciding.halting import (
    common_failure,
    early_end,
    failures_spent,
    hours_spent,
    note_hours_spent,
    open_until,
)
from kerasweep.scheduler.deciding.remembering import Memory, forget, memory_of
from kerasweep.scheduler.deciding.replay import PACKAGES, versions_of
from kerasweep.scheduler.deciding.rungs import end_at_rungs, judge_waiting
from kerasweep.scheduler.deciding.suspicion import judge_workers
from kerasweep.scheduler.samplers import Observation, Suggestion
from kerasweep.scheduler.stopping import StoppingRule, rule_for

log = logging.getLogger(__name__)

#: How often the search method is asked again in one call because its basis changed meanwhile.
_MOST_THOUGHTS = 5


@dataclass(frozen=True)
class Basis:
    """The input of the search method: the trials so far, and the number of further trials wanted.

    In a sweep with repeats, these are variants.
    """

    spec: SweepSpec
    memory: Memory
    trials: tuple[Observation, ...]
    wanted: int
    learned: int | None = None
    earlier: tuple[Observation, ...] = ()

    def suggest(self) -> Thought:
        """Ask the search method."""
        with self.memory.sampler(self.spec) as sampler:
            return Thought(self, sampler.suggest(self.trials, self.wanted, self.learned, self.earlier))

    def still_holds(self, now: Basis) -> bool:
        """Tell whether suggestions made on this basis may be written on the current one.

        A suggestion depends on the trials that had ended and on the values of all others. Trials that ended
        since then do not change it: a search method that needs their results suggests nothing until they
        exist.
        """
        if len(now.trials) != len(self.trials) or now.wanted < self.wanted:
            return False
        changed = _differing(self.trials, now.trials)
        return all(then == since for then, since in changed if then.state.final)

    def is_outdated(self, now: Basis) -> bool:
        """Tell whether a trial has ended since, so that more may be suggested."""
        changed = _differing(self.trials, now.trials)
        return any(since.state.final and not then.state.final for then, since in changed)


def _differing(
    then: Sequence[Observation], now: Sequence[Observation]
) -> Iterator[tuple[Observation, Observation]]:
    """Yield the pairs that are not one object: few, since what ended is remembered."""
    return compress(zip(then, now, strict=True), map(is_not, then, now))


@dataclass(frozen=True)
class Thought:
    """The search method's suggestions on a basis."""

    basis: Basis
    suggestions: Sequence[Suggestion]


def advance(records: Records, sweep: str) -> None:
    """Make a sweep's next decisions: new trials, a halt, an end.

    Raises:
        NotFound: no such sweep.
        OutOfReach: the store does not respond; nothing was decided.
    """
    thought: Thought | None = None
    for _ in range(_MOST_THOUGHTS):
        basis = _decided(records, sweep, thought)
        if basis is None:
            return
        thought = basis.suggest()
    log.warning("sweep %s changes faster than its search method computes; it will be advanced later", sweep)


def _decided(records: Records, sweep: str, thought: Thought | None) -> Basis | None:
    try:
        with records.deciding(sweep) as decision:
            if decision.sweep.state is not SweepState.RUNNING:
                return None
            basis = _decide(decision, memory_of(records, sweep), thought)
            if basis is None and decision.sweep.message and decision.sweep.state is SweepState.RUNNING:
                decision.tell("")  # what stopped it before does no longer
            return basis
    except BaseException:
        forget(records, sweep)
        raise


def advance_from_afar(records: Records, sweep: str) -> None:
    """Make a sweep's next decisions outside a scheduler; what cannot be decided here is left to one.

    Raises:
        NotFound: no such sweep.
        OutOfReach: the store does not respond; nothing was decided.
    """
    try:
        advance(records, sweep)
    except NotFound:
        raise
    except InputError as exc:  # such as a package that is installed only where the scheduler runs
        log.info("sweep %s is left to a scheduler: %s", sweep, exc)


def send_hints(records: Records, queue: HintQueue, sweep: str | None = None) -> None:
    """Send the hints of queued trials that have had none, and record that they were sent.

    Raises:
        OutOfReach: Redis or the store does not respond; unrecorded hints are sent again later.
    """
    while hints := records.unhinted(sweep=sweep):
        queue.send(hints)
        records.mark_hinted(hints)


def _decide(decision: Decision, memory: Memory, thought: Thought | None) -> Basis | None:
    """Make all decisions that are possible now; return the basis for which suggestions are needed, if any.

    Args:
        decision: the sweep under its lock; it is running.
        memory: what this process remembers of it.
        thought: the suggestions for what the last call returned.
    """
    judge_workers(decision)
    if message := common_failure(decision, memory):
        _halt(decision, "the first trials all failed the same way", message)
        return None
    if message := failures_spent(decision):
        _halt(decision, "the failure budget is spent", message)
        return None
    if reason := hours_spent(decision):
        _close(decision, reason)
    rule = rule_for(decision.sweep.spec)
    if rule is not None:
        judge_waiting(decision, rule)
    added, basis = _begin(decision, memory, rule, thought)
    if basis is None and not added and all(state.final for state in decision.counts()):
        _conclude(decision, decision.counts())
    return basis


def _begin(
    decision: Decision, memory: Memory, rule: StoppingRule | None, thought: Thought | None
) -> tuple[int, Basis | None]:
    """Queue the variants that may start now; return their number, and the basis for which suggestions are
    needed. Without repeats, variants are trials.
    """
    times = decision.sweep.spec.times
    total, limit = sum(decision.counts().values()) // times, open_until(decision, memory, rule)
    added = _add_start(decision, rule, total, limit)
    if limit <= total + added:
        return added, None
    basis = _basis(decision, memory, rule, total + added, limit)
    if thought is None or not thought.basis.still_holds(basis):
        return added, basis
    suggested = _add(decision, rule, thought)
    if suggested == basis.wanted < limit - total:
        return added + suggested, _basis(decision, memory, rule, total + added + suggested, limit)
    if not suggested and thought.basis.is_outdated(basis):
        return added, basis
    if not suggested and basis.learned is not None:
        _close_spent(decision, (total + added) * times)
    return added + suggested, None


def _basis(decision: Decision, memory: Memory, rule: StoppingRule | None, total: int, limit: int) -> Basis:
    """Return the input of the search method for variants that are based on the same results."""
    learned = rule.learned(total) if rule else None
    until = total
    while until < limit and (rule is None or rule.learned(until) == learned):
        until = limit if rule is None or learned is None else until + 1
    trials, earlier = memory.observe(decision, learned), memory.earlier(decision, learned)
    return Basis(decision.sweep.spec, memory, trials, until - total, learned, earlier)


def _close_spent(decision: Decision, total: int) -> None:
    """Reduce the planned trials to what the space holds, so that the last cohort is smaller."""
    if total < decision.sweep.max_trials and total:
        decision.set_max_trials(total)
        decision.note("space spent", f"the search method has no further point after {total} trials")


def _add_start(decision: Decision, rule: StoppingRule | None, total: int, limit: int) -> int:
    """Queue the start points of the sweep file; return their number."""
    spec = decision.sweep.spec
    points = spec.start_points()[total:limit] if total < len(spec.start) else []
    reason = f"of {len(spec.start)} start points in the sweep file"
    for number, point in enumerate(points, start=total):
        made = Suggestion(point, f"number {number + 1} {reason}")
        decision.add_trials(new_trials(decision, rule, number, made, by_hand=True))
    return len(points)


def new_trials(
    decision: Decision, rule: StoppingRule | None, variant: int, made: Suggestion, *, by_hand: bool = False
) -> list[NewTrial]:
    """Return the trials of a variant, one unless the sweep has repeats, with their seeds and first rung."""
    spec, rung = decision.sweep.spec, rule.first_rung(variant) if rule else None
    numbers = range(variant * spec.times, (variant + 1) * spec.times)
    return [
        NewTrial(number, made.params, seed_of(spec, number), made.reason, rung, by_hand) for number in numbers
    ]


def _add(decision: Decision, rule: StoppingRule | None, thought: Thought) -> int:
    """Queue the suggested variants; return their number."""
    first = len(thought.basis.trials)
    if thought.suggestions:
        number = first * decision.sweep.spec.times
        decision.bind(
            PACKAGES, versions_of(decision.sweep.spec), f"they choose points from trial {number} on"
        )
    numbered = enumerate(thought.suggestions, start=first)
    made = [one for number, made in numbered for one in new_trials(decision, rule, number, made)]
    decision.add_trials(made)
    return len(thought.suggestions)


def _halt(decision: Decision, reason: str, message: str) -> None:
    decision.move(TrialState.CANCELLED, "the sweep was halted")
    decision.set_state(SweepState.FAILED, reason, message)


def _close(decision: Decision, reason: str) -> None:
    """Start no further trial, and let all others end with the value that they have reached."""
    note_hours_spent(decision, reason)
    end_at_rungs(decision, reason)
    decision.move(TrialState.CANCELLED, reason, reached=False)
    decision.ask(Answer.STOP, reason=reason)
    decision.set_max_trials(sum(decision.counts().values()))


def _conclude(decision: Decision, counts: dict[TrialState, int]) -> None:
    if any(counts.get(state) for state in COUNTED):
        decision.set_state(SweepState.COMPLETED, "every trial has ended", early_end(decision))
        return
    failed = next((trial.failure for trial in decision.trials() if trial.failure), None)
    message = failed.message if failed else "every trial was cancelled"
    state = SweepState.FAILED if failed else SweepState.CANCELLED
    decision.set_state(state, "no trial reached a value", message)

"""What a person may ask of a sweep or of one trial: pause, resume, cancel, retry, extend.

Each writes its decision under the sweep's lock; running attempts hear of it with their next record.
"""

from __future__ import annotations

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.trial import Answer, SweepState, TrialState

_BY_HAND = "asked for by hand"
_PAUSED = (TrialState.PAUSED,)
_RETRIED = (TrialState.FAILED, TrialState.CANCELLED)


def pause(records: Records, sweep: str, trial: int | None = None, reason: str = _BY_HAND) -> str:
    """Stop training after a checkpoint, to go on later; return what was done.

    Raises:
        InputError: the sweep or trial has ended.
    """
    with records.deciding(sweep) as decision:
        if trial is not None:
            _expect_open(decision, trial, "paused")
            asked = decision.ask(Answer.PAUSE, trial, reason)
            decision.move(TrialState.PAUSED, reason, trial)
            return f"trial {trial} {'pauses at its next step' if asked else 'is paused'}"
        _expect_state(decision, "paused", SweepState.RUNNING, SweepState.PAUSED)
        decision.set_state(SweepState.PAUSED, reason)
        return f"sweep {decision.sweep.name} is paused; running trials stop at their next step"


def resume(records: Records, sweep: str, trial: int | None = None) -> str:
    """Go on with what was paused; return what was done.

    Raises:
        InputError: nothing is paused.
    """
    with records.deciding(sweep) as decision:
        if trial is not None and not _resume_trial(decision, trial):
            raise InputError(
                f"only a paused trial can be resumed, got trial {trial} ({decision.trial_state(trial)})"
            )
        if trial is None:
            _expect_state(decision, "resumed", SweepState.RUNNING, SweepState.PAUSED)
            decision.ask(None, reason=_BY_HAND)
            decision.move(TrialState.QUEUED, _BY_HAND, among=_PAUSED)
        if decision.sweep.state is SweepState.PAUSED and trial is None:
            decision.set_state(SweepState.RUNNING, _BY_HAND)
        return f"{'sweep ' + decision.sweep.name if trial is None else f'trial {trial}'} goes on"


def cancel(records: Records, sweep: str, trial: int | None = None) -> str:
    """End what has not ended; what is done stays; return what was done.

    Raises:
        InputError: it has ended already.
    """
    with records.deciding(sweep) as decision:
        if trial is not None:
            _expect_open(decision, trial, "cancelled")
            decision.ask(Answer.CANCEL, trial, _BY_HAND)
            decision.move(TrialState.CANCELLED, _BY_HAND, trial)
            return f"trial {trial} is cancelled"
        _expect_state(decision, "cancelled", SweepState.RUNNING, SweepState.PAUSED)
        decision.move(TrialState.CANCELLED, _BY_HAND)
        decision.set_state(SweepState.CANCELLED, _BY_HAND, "cancelled by hand")
        return f"sweep {decision.sweep.name} is cancelled"


def retry(records: Records, sweep: str, trial: int | None = None) -> str:
    """Queue failed and cancelled trials again, with a clean slate of failures; return what was done.

    Raises:
        InputError: there is nothing to retry.
        NotFound: the sweep has no such trial.
    """
    with records.deciding(sweep) as decision:
        slate = {"failures": 0, "failure_class": None, "failure_message": None, "pack_limit": None}
        if trial is not None:
            decision.trial_state(trial)  # tells which numbers there are
        moved = decision.move(TrialState.QUEUED, "retry " + _BY_HAND, trial, among=_RETRIED, **slate)
        if not moved:
            name = decision.sweep.name
            if trial is None:
                got = f"sweep {name} has none"
            else:
                got = f"got trial {trial} ({decision.trial_state(trial)})"
            raise InputError(
                f"only failed or cancelled trials can be retried, {got}; see `kerasweep trials {name}`"
            )
        _reopen(decision)
        return f"{moved} trial{'s' if moved > 1 else ''} queued again"


def extend(records: Records, sweep: str, max_trials: int) -> str:
    """Let a sweep have more trials, without touching what is done; return what was done.

    Raises:
        InputError: not more than now, or more than its grid holds.
    """
    with records.deciding(sweep) as decision:
        name, now = decision.sweep.name, decision.sweep.max_trials
        if max_trials <= now:
            raise InputError(f"--max-trials must be above {now}, which sweep {name} has, got {max_trials}")
        size = decision.sweep.spec.space().grid_size()
        if size is not None and max_trials > size:
            raise InputError(
                f"--max-trials must be at most {size}, the points of sweep {name}, got {max_trials}"
            )
        decision.set_max_trials(max_trials)
        decision.note("extended", f"from {now} to {max_trials} trials, {_BY_HAND}")
        _reopen(decision)
        return f"sweep {name} goes on to {max_trials} trials"


def _resume_trial(decision: Decision, trial: int) -> bool:
    """Queue a paused trial, or take the pause back from one that has not stopped yet."""
    if decision.move(TrialState.QUEUED, _BY_HAND, trial, among=_PAUSED):
        return True
    return bool(decision.ask(None, trial, _BY_HAND))


def _reopen(decision: Decision) -> None:
    if decision.sweep.state.final:
        decision.set_state(SweepState.RUNNING, _BY_HAND)


def _expect_state(decision: Decision, done: str, *allowed: SweepState) -> None:
    sweep = decision.sweep
    if sweep.state not in allowed:
        raise InputError(f"only a {' or '.join(allowed)} sweep can be {done}, {sweep.name} is {sweep.state}")


def _expect_open(decision: Decision, trial: int, done: str) -> None:
    state = decision.trial_state(trial)
    if state.final:
        raise InputError(f"only a trial that has not ended can be {done}, trial {trial} is {state}")

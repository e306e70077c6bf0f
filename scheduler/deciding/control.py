"""User requests to a sweep or a trial: pause, resume, cancel, retry, extend.

Each writes its decision under the sweep's lock; running attempts hear of it with their next record.
"""

from __future__ import annotations

from typing import Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sweeps import Decision
from kerasweep.jobs.trial import Answer, SweepState, TrialState
from kerasweep.scheduler.deciding.halting import common_failure, failures_spent, hours_spent, patience_spent
from kerasweep.scheduler.deciding.mending import FreshCode

_BY_HAND = "asked for by hand"
_PAUSED = (TrialState.PAUSED,)
_RETRIED = (TrialState.FAILED, TrialState.CANCELLED)


def pause(records: Records, sweep: str, trial: int | None = None, reason: str = _BY_HAND) -> str:
    """Stop training after a checkpoint, so that it can be resumed; return what was done.

    Raises:
        InputError: the sweep or trial has ended.
    """
    with records.deciding(sweep) as decision:
        if trial is not None:
            _expect_open(decision, trial, "paused")
            moved = decision.move_or_ask(TrialState.PAUSED, Answer.PAUSE, trial, reason)
            still = moved or decision.trial_state(trial) is TrialState.PAUSED
            return f"trial {trial} {'is paused' if still else 'pauses at its next step'}"
        _expect_state(decision, "paused", SweepState.RUNNING, SweepState.PAUSED)
        # What a scheduler paused it for is still to be corrected.
        kept = decision.sweep.message if decision.sweep.state is SweepState.PAUSED else ""
        decision.set_state(SweepState.PAUSED, reason, kept)
        return f"sweep {decision.sweep.name} is paused; running trials stop at their next step"


def resume(records: Records, sweep: str, trial: int | None = None) -> str:
    """Resume a sweep or a trial; return what was done.

    In a sweep that was paused as a whole, trials that were paused on their own stay paused; in one that runs,
    they are resumed.

    Raises:
        InputError: nothing is paused.
    """
    still = ""
    with records.deciding(sweep) as decision:
        if trial is not None and not _resume_trial(decision, trial):
            raise InputError(
                f"only a paused trial can be resumed, got trial {trial} ({decision.trial_state(trial)})"
            )
        if trial is None:
            _expect_state(decision, "resumed", SweepState.RUNNING, SweepState.PAUSED)
            still = _resume_sweep(decision)
        if spent := hours_spent(decision):
            return f"sweep {decision.sweep.name} ends with what it has, since {spent}"
        if trial is not None:
            return f"trial {trial} is resumed"
        return f"sweep {decision.sweep.name} is resumed{still}"


def cancel(records: Records, sweep: str, trial: int | None = None) -> str:
    """Cancel everything unfinished, keeping finished results; return what was done.

    Raises:
        InputError: it has already ended.
    """
    with records.deciding(sweep) as decision:
        if trial is not None:
            _expect_open(decision, trial, "cancelled")
            moved = decision.move_or_ask(TrialState.CANCELLED, Answer.CANCEL, trial, _BY_HAND)
            return f"trial {trial} {'is cancelled' if moved else 'will be cancelled at its next step'}"
        _expect_state(decision, "cancelled", SweepState.RUNNING, SweepState.PAUSED)
        decision.move(TrialState.CANCELLED, _BY_HAND)
        decision.set_state(SweepState.CANCELLED, _BY_HAND, "cancelled by hand")
        running = decision.counts().get(TrialState.RUNNING, 0)
        still = "the trial that runs stops" if running == 1 else f"the {running} trials that run stop"
        rest = f"; {still} at the next step" if running else ""
        return f"sweep {decision.sweep.name} is cancelled{rest}"


def retry(records: Records, sweep: str, trial: int | None = None, code: FreshCode | None = None) -> str:
    """Queue failed and cancelled trials again, with their failure counts reset; return what was done.

    Args:
        records: where the sweep is.
        sweep: its id.
        trial: only this one.
        code: the code for the sweep's trials from now on; queued ones restart with it.

    Raises:
        InputError: there is nothing to retry, or it would be cancelled at once, or there is new code while
            trials are under way.
        NotFound: the sweep has no such trial.
    """
    with records.deciding(sweep) as decision:
        slate: dict[str, Any] = {
            "failures": 0,
            "failure_class": None,
            "failure_message": None,
            "pack_limit": None,
        }
        if trial is not None:
            decision.trial_state(trial)  # says which numbers exist
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
        _expect_to_train(decision)
        if code is not None:
            _take_code(decision, code)
        _reopen(decision, "retry " + _BY_HAND)
        taken = f", with {code.entry} as it is now" if code else ""
        return f"{moved} trial{'s' if moved > 1 else ''} queued again{taken}"


def extend(records: Records, sweep: str, max_trials: int) -> str:
    """Allow a sweep more trials, keeping finished ones; return what was done.

    Raises:
        InputError: it is cancelled, or not more than now, more than its grid holds, or no further trial would
            be trained.
    """
    with records.deciding(sweep) as decision:
        _expect_to_train(decision)
        _expect_not_cancelled(decision)
        name, now = decision.sweep.name, decision.sweep.max_trials
        expect_search(decision)
        if max_trials <= now:
            raise InputError(f"max_trials must be above {now}, which sweep {name} has, got {max_trials}")
        if spent := patience_spent(decision):
            raise InputError(
                f"sweep {name} would start no further trial: {spent}\n"
                "Submit it again, with more patience under stopping in the sweep file"
            )
        points, times = decision.sweep.spec.space().grid_size(), decision.sweep.spec.times
        if points is not None and max_trials > points * times:
            what = "points" if times == 1 else f"points times {times} repeats"
            raise InputError(
                f"max_trials must be at most {points * times}, the {what} of sweep {name}, got {max_trials}"
            )
        if max_trials % times:
            raise InputError(
                f"max_trials must be a multiple of {times}, the repeats of each variant of sweep {name}, "
                f"got {max_trials}; write {max_trials - max_trials % times + times}"
            )
        decision.set_max_trials(max_trials)
        decision.note("extended", f"from {now} to {max_trials} trials, {_BY_HAND}")
        again = _reopen(decision, "extend " + _BY_HAND)
        return f"sweep {name} may now have {max_trials} trials{again}"


def expect_search(decision: Decision) -> None:
    """Refuse further points in a sweep that only trains the best of another again.

    Raises:
        InputError: it is such a sweep.
    """
    origin = decision.sweep.certifies
    if origin is not None:
        raise InputError(
            f"sweep {decision.sweep.name} trains only the best variants of {origin['name']} again\n"
            f"`kerasweep certify {origin['name']} --top 5` takes more of them, `--seeds 20` more seeds"
        )


def _take_code(decision: Decision, code: FreshCode) -> None:
    """Train everything unfinished with new code, from its first epoch.

    Raises:
        InputError: trials are under way, and would continue with code that they did not start with.
    """
    running = decision.counts().get(TrialState.RUNNING, 0)
    if running:
        raise InputError(
            f"the code of a sweep can only change while none of its trials is running, and {running} are in "
            f"{decision.sweep.name}\nWait for them, or `kerasweep pause {decision.sweep.name}` first"
        )
    fresh = decision.forget_checkpoints()
    decision.change_code(code.bundle, code.entry, code.source)
    dropped = f"; {fresh} checkpoints of the code before it are dropped" if fresh else ""
    what = f"{code.entry} of bundle {code.bundle.sha256[:12]}"
    decision.note("code changed", f"trials that begin from here on run {what}{dropped}, {_BY_HAND}")


def _resume_sweep(decision: Decision) -> str:
    """Resume a sweep that is paused, or else its trials that are; return what stays paused, in words."""
    if decision.sweep.state is not SweepState.PAUSED:
        decision.ask(None, reason=_BY_HAND)
        decision.move(TrialState.QUEUED, _BY_HAND, among=_PAUSED)
        return ""
    decision.move(TrialState.QUEUED, _BY_HAND, among=_PAUSED, alone=False)
    decision.set_state(SweepState.RUNNING, _BY_HAND)
    held = decision.paused_alone()
    if not held:
        return ""
    name = decision.sweep.name
    if len(held) == 1:
        return (
            f"; trial {held[0]}, which was paused on its own, stays paused: "
            f"`kerasweep resume {name} {held[0]}` resumes it"
        )
    return (
        f"; {len(held)} trials that were paused on their own stay paused: "
        f"`kerasweep resume {name}` again resumes them"
    )


def _resume_trial(decision: Decision, trial: int) -> bool:
    """Queue a paused trial, or withdraw a pause that has not taken effect yet."""
    if decision.move(TrialState.QUEUED, _BY_HAND, trial, among=_PAUSED):
        return True
    return bool(decision.ask(None, trial, _BY_HAND))


def _expect_to_train(decision: Decision) -> None:
    """Refuse what the next decision would undo: the sweep would end or halt again at once.

    Raises:
        InputError: its hours are spent, or its first trials have all failed the same way.
    """
    name = decision.sweep.name
    if spent := hours_spent(decision):
        raise InputError(
            f"a trial can only start while the sweep has hours left, and in sweep {name} {spent}\n"
            "Submit it again, with more max_hours under budget in the sweep file"
        )
    if message := failures_spent(decision):
        raise InputError(
            f"sweep {name} would be halted again: {message}\n"
            f"`kerasweep retry {name}` queues all failed trials again once the cause is gone"
        )
    if message := common_failure(decision):
        raise InputError(
            f"sweep {name} would be halted again: its first trials all failed the same way: {message}\n"
            f"`kerasweep retry {name}` queues all of them again once the cause is gone; "
            f"with a fixed job, `kerasweep retry {name} --code` does"
        )


def _expect_not_cancelled(decision: Decision) -> None:
    """Refuse further trials while cancelled ones would be left out, or go on if their cancel came too late.

    Raises:
        InputError: the sweep is cancelled, and has trials that a retry would train.
    """
    name, counts = decision.sweep.name, decision.counts()
    undone = (*_RETRIED, TrialState.RUNNING)
    if decision.sweep.state is SweepState.CANCELLED and any(counts.get(state) for state in undone):
        raise InputError(
            f"a cancelled sweep gets no further trials, and sweep {name} is cancelled\n"
            f"`kerasweep retry {name}` queues its cancelled trials again, and then it can be extended"
        )


def _reopen(decision: Decision, reason: str) -> str:
    """Let a sweep that has ended run again; return that in words, nothing if it had not ended."""
    before = decision.sweep.state
    if not before.final:
        return ""
    decision.set_state(SweepState.RUNNING, reason)
    return f"; it was {before} and runs again"


def _expect_state(decision: Decision, done: str, *allowed: SweepState) -> None:
    sweep = decision.sweep
    if sweep.state not in allowed:
        raise InputError(f"only a {' or '.join(allowed)} sweep can be {done}, {sweep.name} is {sweep.state}")


def _expect_open(decision: Decision, trial: int, done: str) -> None:
    state = decision.trial_state(trial)
    if state.final:
        raise InputError(f"only a trial that has not ended can be {done}, trial {trial} is {state}")

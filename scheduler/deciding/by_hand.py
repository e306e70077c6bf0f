"""Points that the user adds to a running sweep."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.sweepfile.dimension import identity
from kerasweep.jobs.sweepfile.rules import RuleError
from kerasweep.scheduler.deciding.advance import new_trials
from kerasweep.scheduler.deciding.control import expect_search
from kerasweep.scheduler.deciding.halting import hours_spent, patience_spent
from kerasweep.scheduler.samplers import Suggestion
from kerasweep.scheduler.stopping import rule_for


def add(records: Records, sweep: str, point: Mapping[str, JsonValue]) -> str:
    """Queue a point in addition to those that the method chooses; the budget grows by it. Return what was
    done.

    Raises:
        InputError: it is not a point of the space, or was already tried; or the sweep starts no more trials.
    """
    with records.deciding(sweep) as decision:
        record, name = decision.sweep, decision.sweep.name
        if record.state.final:
            raise InputError(
                f"a point can only be added while a sweep runs, and {name} is {record.state}\n"
                "Put it under `start` of another sweep"
            )
        if spent := hours_spent(decision) or patience_spent(decision):
            raise InputError(f"sweep {name} starts no further trial: {spent}\nSubmit another sweep")
        expect_search(decision)
        try:
            params = record.spec.space().point(point)
        except RuleError as breach:
            raise InputError(f"{breach.rule}\n{breach.remedy} (sweep {name})") from breach
        trials = decision.trials()
        twin = next((one for one in trials if identity(dict(one.params)) == identity(params)), None)
        if twin is not None:
            raise InputError(
                f"a point is tried only once, and trial {twin.number} of sweep {name} has these values; "
                f"it is {twin.state}\n`kerasweep trials {name}` shows it"
            )
        made, times = Suggestion(params, "added by hand"), record.spec.times
        decision.set_max_trials(record.max_trials + times)
        decision.note("added", f"a point beside the {record.max_trials} trials planned")
        rule = rule_for(record.spec)
        decision.add_trials(new_trials(decision, rule, len(trials) // times, made, by_hand=True))
        if times == 1:
            return f"trial {len(trials)} of sweep {name} is queued"
        return f"trials {len(trials)} to {len(trials) + times - 1} of sweep {name} are queued"

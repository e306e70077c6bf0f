"""A sweep under its lock: what its scheduler reads, and the decisions that it writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, bindparam, case, cast, func, or_, select, tuple_

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.faults.fleet import Fleet
from kerasweep.jobs.store.models import EarlierResult, NewTrial, SweepRecord, TrialRecord
from kerasweep.jobs.store.ranking import among_best
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.store.sql.moves import lock_trials, move_trials
from kerasweep.jobs.store.sql.rows import last_of, read_earlier, storable, trial_of, write_journal
from kerasweep.jobs.trial import COUNTED, FINAL, Answer, SweepState, TrialState, sources_of

#: What may replace an earlier request: a cancel is final, and a resume replaces only a pause.
_WEAKER: dict[Answer | None, tuple[Answer, ...]] = {
    None: (Answer.PAUSE,),
    Answer.PAUSE: (Answer.PAUSE,),
    Answer.STOP: (Answer.PAUSE, Answer.STOP),
    Answer.CANCEL: (Answer.PAUSE, Answer.STOP, Answer.CANCEL),
}

#: So many numbers are named in one statement.
_CHUNK = 500

# Statements of every decision are built once: SQLAlchemy takes longer to build one than SQLite to execute it.
_IN_SWEEP = t.trials.c.sweep == bindparam("of_sweep")
_WITHOUT_RESULT = and_(_IN_SWEEP, t.trials.c.state.in_(sorted(FINAL - COUNTED)))
_MARK = select(
    func.count(),
    func.sum(t.trials.c.number),
    func.sum(cast(t.trials.c.number, BigInteger) * t.trials.c.number),
    func.sum(t.trials.c.attempt),
    func.max(t.trials.c.finished_at),
).where(_WITHOUT_RESULT)
_COUNTED = select(t.trials.c.number).where(
    _IN_SWEEP, t.trials.c.number >= bindparam("first"), t.trials.c.state.in_(sorted(COUNTED))
)
_OPEN = sorted(set(TrialState) - FINAL)
_OPEN_TRIALS = select(t.trials).where(_IN_SWEEP, t.trials.c.state.in_(_OPEN))
_SOME_TRIALS = select(t.trials).where(_IN_SWEEP, t.trials.c.number.in_(bindparam("numbers", expanding=True)))
_RUNGS = (
    select(t.rungs)
    .where(t.rungs.c.sweep == bindparam("of_sweep"), t.rungs.c.trial >= bindparam("first"))
    .order_by(t.rungs.c.trial, t.rungs.c.epoch)
)
_STATES = select(t.trials.c.state, func.count()).where(_IN_SWEEP).group_by(t.trials.c.state)


class Decision:
    """A sweep's records under its lock. Everything written here is committed together or not at all."""

    def __init__(self, conn: Connection, sweep: SweepRecord, now: float) -> None:
        self._conn = conn
        self._mine, self._named = t.trials.c.sweep == sweep.id, {"of_sweep": sweep.id}
        self._counts: dict[TrialState, int] | None = None
        self.sweep = sweep
        self.now = now
        #: How often trials were added or moved here.
        self.changes = 0
        #: The sweep's workers.
        self.fleet = Fleet(conn, sweep, now)

    def counts(self) -> dict[TrialState, int]:
        """Return the number of trials in each state."""
        if self._counts is None:
            self._counts = count_states(self._conn, self.sweep.id)
        return dict(self._counts)

    def counted(self, first: int) -> list[int]:
        """Return the trials that count, from number `first` on."""
        return list(self._conn.execute(_COUNTED, {**self._named, "first": first}).scalars())

    def failed(self) -> list[TrialRecord]:
        """Return the trials that have failed, by number."""
        query = select(t.trials).where(self._mine, t.trials.c.state == TrialState.FAILED)
        return [trial_of(row) for row in self._conn.execute(query.order_by(t.trials.c.number))]

    def open_trials(self) -> list[TrialRecord]:
        """Return the trials that have not ended."""
        return [trial_of(row) for row in self._conn.execute(_OPEN_TRIALS, self._named)]

    def mark_without_result(self) -> tuple[Any, ...]:
        """Return a mark that changes when a trial ends without a result, or such a trial is retried.

        Whoever ends does so later than all before, so the last end rises unless trials only leave.
        """
        return tuple(self._conn.execute(_MARK, self._named).one())

    def ended_without_result(self) -> dict[int, tuple[str, int, float]]:
        """Return the state, attempt and end of each trial that ended and does not count, by number.

        A retry changes one of these, sooner or later.
        """
        columns = (t.trials.c.number, t.trials.c.state, t.trials.c.attempt, t.trials.c.finished_at)
        query = select(*columns).where(_WITHOUT_RESULT)
        return {row[0]: (row[1], row[2], row[3]) for row in self._conn.execute(query, self._named)}

    def trials_of(self, numbers: Sequence[int]) -> list[TrialRecord]:
        """Return the trials of these numbers."""
        found: list[TrialRecord] = []
        for start in range(0, len(numbers), _CHUNK):
            some = {**self._named, "numbers": numbers[start : start + _CHUNK]}
            found += [trial_of(row) for row in self._conn.execute(_SOME_TRIALS, some)]
        return found

    def trials(self, first: int = 0, until: int | None = None) -> list[TrialRecord]:
        """Return the trials from number `first` on, to before `until` if given, by number."""
        below = [] if until is None else [t.trials.c.number < until]
        where = (self._mine, t.trials.c.number >= first, *below)
        query = select(t.trials).where(*where).order_by(t.trials.c.number)
        return [trial_of(row) for row in self._conn.execute(query)]

    def settled(self) -> int:
        """Return the number of leading trials that have ended."""
        first = first_open(self._conn, self.sweep.id)
        return sum(self.counts().values()) if first is None else first

    def numbers(self, state: TrialState, *, to_go_on: bool = False) -> list[int]:
        """Return the trials in a state; with `to_go_on`, without those that only end at their rung."""
        where = [self._mine, t.trials.c.state == state, *([~t.trials.c.ends] if to_go_on else [])]
        query = select(t.trials.c.number).where(*where).order_by(t.trials.c.number)
        return list(self._conn.execute(query).scalars())

    def values(self, count: int) -> list[float | None]:
        """Return the final values of the first `count` trials, by number; None if one does not count."""
        counted = case((t.trials.c.state.in_(COUNTED), t.trials.c.value))
        query = select(counted).where(self._mine, t.trials.c.number < count).order_by(t.trials.c.number)
        return list(self._conn.execute(query).scalars())

    def earlier(self) -> list[EarlierResult]:
        """Return what the sweep learns from an earlier one, in order."""
        return read_earlier(self._conn, self.sweep.id)

    def rung_values(self, first: int = 0) -> dict[int, dict[int, float]]:
        """Return the values at rungs of the trials from number `first` on, by number and epoch."""
        return read_rungs(self._conn, self.sweep.id, first)

    def bind(self, key: str, value: Any, reason: str) -> bool:
        """Record a choice of the scheduler, with a journal entry; return whether it is new."""
        mine = (t.decisions.c.sweep == self.sweep.id, t.decisions.c.key == key)
        bound = self._conn.execute(select(t.decisions.c.value).where(*mine)).one_or_none()
        if bound is not None and bound.value == value:
            return False
        choice = {"value": value, "reason": storable(reason)}
        if bound is None:
            self._conn.execute(t.decisions.insert().values(sweep=self.sweep.id, key=key, **choice))
        else:
            self._conn.execute(t.decisions.update().where(*mine).values(choice))
        self.note("decided", f"{key} = {value}: {reason}")
        return True

    def among_best(self, numbers: Collection[int]) -> set[int]:
        """Return those of the trials whose models would be kept if they ended now."""
        return among_best(self._conn, self.sweep, numbers)

    def end_at(self, number: int, epoch: int, reason: str) -> None:
        """Let a queued trial end at an epoch that it has reached, instead of training further."""
        mine = and_(self._mine, t.trials.c.number == number, t.trials.c.state == TrialState.QUEUED)
        self._conn.execute(t.trials.update().where(mine).values(rung=epoch, ends=True))
        self.note("ends", reason, trial=number)

    def first_failed(self, wanted: int) -> list[TrialRecord]:
        """Return the `wanted` trials that ended first if all of them failed, else fewer or none."""
        order = (t.trials.c.finished_at, t.trials.c.number)
        failed = and_(self._mine, t.trials.c.state == TrialState.FAILED)
        # The two columns alone: whole rows would all be read to be sorted.
        found = self._conn.execute(select(*order).where(failed).order_by(*order).limit(wanted)).all()
        if found:
            last = tuple(found[-1])
            others = and_(self._mine, t.trials.c.state.in_(sorted(FINAL - {TrialState.FAILED})))
            earlier = select(t.trials.c.number).where(others, tuple_(*order) < tuple_(*last)).limit(1)
            if self._conn.execute(earlier).first() is not None:
                return []
        trials = {one.number: one for one in self.trials_of([row.number for row in found])}
        return [trials[row.number] for row in found]

    def trial_state(self, number: int) -> TrialState:
        """Return a trial's state.

        Raises:
            NotFound: the sweep has no such trial.
        """
        query = select(t.trials.c.state).where(self._mine, t.trials.c.number == number)
        state = self._conn.execute(query).scalar()
        if state is None:
            raise no_such_trial(self._conn, self.sweep.id, number)
        return TrialState(state)

    def add_trials(self, trials: Sequence[NewTrial]) -> None:
        """Add queued trials, each with its reason in the journal."""
        if not trials:
            return
        fresh = {
            "sweep": self.sweep.id,
            "state": TrialState.QUEUED,
            "attempt": 0,
            "failures": 0,
            "epochs": 0,
            "metrics": {},
            "facts": {},
            "created_at": self.now,
        }
        rows = [
            {
                **fresh,
                "number": trial.number,
                "params": dict(trial.params),
                "seed": trial.seed,
                "rung": trial.rung,
                "by_hand": trial.by_hand,
            }
            for trial in trials
        ]
        line = {"sweep": self.sweep.id, "at": self.now, "event": "suggested", "state": TrialState.QUEUED}
        story = [{**line, "trial": trial.number, "reason": storable(trial.reason)} for trial in trials]
        self._note_change()
        self._conn.execute(t.trials.insert(), rows)
        self._conn.execute(t.journal.insert(), story)

    def move(
        self,
        target: TrialState,
        reason: str,
        trial: int | None = None,
        *,
        among: Collection[TrialState] | None = None,
        reached: bool | None = None,
        alone: bool = True,
        **values: Any,
    ) -> int:
        """Move every trial that may go to `target`, except running ones; return the number of trials moved.

        Each gets its own journal entry.

        Args:
            target: the new state.
            reason: why, for the journal.
            trial: only this trial.
            among: only trials in these states.
            reached: only those with, or only those without, a value at a rung.
            alone: those too that were paused on their own.
            values: other columns to change.
        """
        idle = [
            state
            for state in sources_of(target)
            if state is not TrialState.RUNNING and (among is None or state in among)
        ]
        where = self._mine if trial is None else and_(self._mine, t.trials.c.number == trial)
        if reached is not None:
            where = and_(where, t.trials.c.value.is_not(None) if reached else t.trials.c.value.is_(None))
        if not alone:
            where = and_(where, t.trials.c.asked.is_(None))
        self._note_change()
        return move_trials(
            self._conn, where, target, self.now, reason=storable(reason), sources=idle, **values
        )

    def ask(self, answer: Answer | None, trial: int | None = None, reason: str = "") -> int:
        """Ask running attempts to pause, stop or cancel; return the number of attempts now asked.

        A trial that is paused with its sweep may be asked to pause too: it then stays when that is resumed.
        A cancel overrides a stop and a stop overrides a pause, in any order; None withdraws a pause.
        """
        weaker = or_(t.trials.c.asked.is_(None), t.trials.c.asked.in_(_WEAKER[answer]))
        states = [TrialState.RUNNING, *([TrialState.PAUSED] if answer is Answer.PAUSE else [])]
        running = and_(self._mine, t.trials.c.state.in_(states), weaker)
        rows = lock_trials(
            self._conn, running if trial is None else and_(running, t.trials.c.number == trial)
        )
        changed = [row for row in rows if row.asked != answer]
        if changed:
            numbers = [row.number for row in changed]
            where = and_(running, t.trials.c.number.in_(numbers))
            self._conn.execute(t.trials.update().where(where).values(asked=answer))
            event = f"asked to {answer}" if answer else "asked to go on"
            line = {"sweep": self.sweep.id, "at": self.now, "event": event, "reason": storable(reason)}
            story = [{**line, "trial": row.number, "attempt": row.attempt} for row in changed]
            self._conn.execute(t.journal.insert(), story)
        return len(rows)

    def move_or_ask(self, target: TrialState, answer: Answer, trial: int, reason: str) -> bool:
        """Move a trial at once, or ask its running attempt to; return whether it moved.

        The move is tried first: a trial that a worker claims at this moment is running by the time it is
        asked, and the sweep's lock keeps a running one from being given back in between.
        """
        moved = self.move(target, reason, trial, asked=answer if answer is Answer.PAUSE else None)
        if not moved:
            self.ask(answer, trial, reason)
        return bool(moved)

    def paused_alone(self) -> list[int]:
        """Return the trials that were paused on their own, or will be at their next step, by number."""
        query = select(t.trials.c.number).where(self._mine, t.trials.c.asked == Answer.PAUSE)
        return list(self._conn.execute(query.order_by(t.trials.c.number)).scalars())

    def set_state(self, state: SweepState, reason: str, message: str = "") -> None:
        """Set the sweep's state, with the reason."""
        ended = self.now if state.final else None
        self.sweep = replace(self.sweep, state=state, message=storable(message), finished_at=ended)
        values = {"state": state, "message": self.sweep.message, "finished_at": ended}
        self._conn.execute(t.sweeps.update().where(t.sweeps.c.id == self.sweep.id).values(values))
        write_journal(self._conn, self.now, self.sweep.id, f"sweep {state}", reason, state=state)

    def tell(self, message: str) -> None:
        """Set what is said of the sweep, whose state stays."""
        self.sweep = replace(self.sweep, message=storable(message))
        mine = t.sweeps.c.id == self.sweep.id
        self._conn.execute(t.sweeps.update().where(mine).values(message=self.sweep.message))

    def set_max_trials(self, max_trials: int) -> None:
        """Set the maximum number of trials."""
        self.sweep = replace(self.sweep, max_trials=max_trials)
        self._conn.execute(
            t.sweeps.update().where(t.sweeps.c.id == self.sweep.id).values(max_trials=max_trials)
        )

    def change_code(self, bundle: ArtifactRef, entry: str, source: Mapping[str, Any]) -> None:
        """Let attempts that start from now on use another bundle; the previous one stays on record."""
        before = self.sweep.source
        earlier = {
            "key": self.sweep.bundle.key,
            "sha256": self.sweep.bundle.sha256,
            "entry": self.sweep.entry,
        }
        bundles = [*before.get("bundles", []), {**earlier, "git_commit": before.get("git_commit")}]
        values = {
            "bundle_key": bundle.key,
            "bundle_sha256": bundle.sha256,
            "entry": entry,
            "source": {**before, **source, "bundles": bundles},
        }
        self._conn.execute(t.sweeps.update().where(t.sweeps.c.id == self.sweep.id).values(values))

    def forget_checkpoints(self) -> int:
        """Remove the checkpoints of unfinished trials from the records; return their number."""
        open_ = select(t.trials.c.number).where(self._mine, t.trials.c.state.not_in(sorted(FINAL)))
        mine = and_(t.artifacts.c.sweep == self.sweep.id, t.artifacts.c.kind == "checkpoint")
        return self._conn.execute(t.artifacts.delete().where(mine, t.artifacts.c.trial.in_(open_))).rowcount

    def _note_change(self) -> None:
        self._counts = None
        self.changes += 1

    def noted(self, *events: str) -> tuple[str, str] | None:
        """Return the latest journal entry of these events, as event and reason; None if there is none."""
        return last_of(self._conn, self.sweep.id, events)

    def note(self, event: str, reason: str, trial: int | None = None) -> None:
        """Write a decision that moves nothing to the journal, with its reason."""
        write_journal(self._conn, self.now, self.sweep.id, event, reason, trial=trial)


def count_states(conn: Connection, sweep: str) -> dict[TrialState, int]:
    """Return the number of a sweep's trials in each state that occurs."""
    return {TrialState(state): count for state, count in conn.execute(_STATES, {"of_sweep": sweep})}


def count_settled(conn: Connection, sweep: str) -> int:
    """Return the number of a sweep's leading trials that have ended."""
    first = first_open(conn, sweep)
    return sum(count_states(conn, sweep).values()) if first is None else first


def first_open(conn: Connection, sweep: str) -> int | None:
    """Return the lowest number of a sweep's trials that have not ended, None where all have."""
    # Not `min(number)`: SQLite would look through every trial that has ended before the first open one.
    lowest = [
        select(t.trials.c.number).where(t.trials.c.sweep == sweep, t.trials.c.state == state)
        for state in _OPEN
    ]
    return min((number for query in lowest for number in conn.execute(query).scalars()), default=None)


def read_rungs(conn: Connection, sweep: str, first: int = 0) -> dict[int, dict[int, float]]:
    """Return the values at rungs of a sweep's trials from number `first` on, by number and epoch."""
    found: dict[int, dict[int, float]] = {}
    for row in conn.execute(_RUNGS, {"of_sweep": sweep, "first": first}):
        found.setdefault(row.trial, {})[row.epoch] = row.value
    return found


def no_such_trial(conn: Connection, sweep: str, number: int) -> NotFound:
    """Return the error for a trial that the sweep does not have."""
    count = sum(count_states(conn, sweep).values())
    rule = (
        f"a trial of sweep {sweep} is a number from 0 to {count - 1}"
        if count
        else f"sweep {sweep} has no trials yet"
    )
    return NotFound(f"{rule}, got {number}; `kerasweep trials {sweep}` lists them")

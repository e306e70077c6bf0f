"""Any sequence of calls, compared with a simple model: the records and the journal must match it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from recorded import LEASE_S, FakeClock, a_sweep, epoch, put_sweep, result

from kerasweep.jobs.errors import StaleAttempt
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import (
    COUNTED,
    FINAL,
    HOPELESS,
    MOVES,
    UNCOUNTED,
    Answer,
    AttemptKey,
    Failure,
    FailureClass,
    SweepState,
    TrialKey,
    TrialState,
)

SWEEP = "abcd1234"
TRIALS = 3
MAX_FAILURES = 2

numbers = st.integers(0, TRIALS - 1)
# Usually the newest attempt, else one that is stale or does not exist yet.
behind = st.sampled_from([0, 0, 0, 0, 1, 2, -1])


@dataclass
class Model:
    """The expected state of a trial."""

    state: TrialState = TrialState.QUEUED
    attempt: int = 0
    failures: int = 0
    pack_limit: int | None = None
    asked: Answer | None = None
    lease_until: float | None = None
    epochs: int = 0
    digest: str | None = None


class RecordsMachine(RuleBasedStateMachine):
    """Workers, the scheduler and a user at once, on a clock that only this machine moves."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.folder = tempfile.TemporaryDirectory()
        self.records = Records(self.new_url(), clock=self.clock)
        put_sweep(self.records, TRIALS, a_sweep(max_failures=MAX_FAILURES))
        self.trials = [Model() for _ in range(TRIALS)]
        self.sweep = SweepState.RUNNING
        self.ends: dict[int, int] = dict.fromkeys(range(TRIALS), 0)

    def new_url(self) -> str:
        return f"sqlite:///{Path(self.folder.name) / 'store.db'}"

    def teardown(self) -> None:
        self.records.close()
        self.folder.cleanup()

    # Workers' actions.

    @rule(number=numbers)
    def claim(self, number: int) -> None:
        claimed = self.records.claim(TrialKey(SWEEP, number), "w", LEASE_S)
        model = self.trials[number]
        assert bool(claimed) is (model.state is TrialState.QUEUED and self.sweep is SweepState.RUNNING)
        if claimed:
            model.state, model.attempt, model.asked = TrialState.RUNNING, model.attempt + 1, None
            model.lease_until = self.clock.now + LEASE_S
            assert (claimed.key.attempt, claimed.pack_limit) == (model.attempt, model.pack_limit)

    @rule(number=numbers, back=behind, some=st.integers(0, 2))
    def record(self, number: int, back: int, some: int) -> None:
        model, key = self.trials[number], self.key(number, back)
        said = Progress(key, tuple(epoch(model.epochs + 1 + step) for step in range(some)))
        answer = self.records.record([said], LEASE_S)[key]
        if not self.holds(number, back):
            assert answer is Answer.STALE
            return
        assert answer is self.answer(model)
        model.epochs += some
        model.lease_until = self.clock.now + LEASE_S

    @rule(number=numbers, back=behind, state=st.sampled_from(sorted(COUNTED)), again=st.booleans())
    def finish(self, number: int, back: int, state: TrialState, again: bool) -> None:
        model, key = self.trials[number], self.key(number, back)
        good = result(epochs=model.epochs, state=state, digest=str(key.attempt) * 8)
        if not self.holds(number, back):
            if (model.state, model.digest, back) == (state, good.digest, 0):
                self.records.finish(key, good)  # as after a lost answer
            else:
                with pytest.raises(StaleAttempt):
                    self.records.finish(key, good)
            return
        for _ in range(1 + again):
            self.records.finish(key, good)
        model.digest = good.digest
        self.end(number, state)

    @rule(
        number=numbers,
        back=behind,
        cls=st.sampled_from(sorted(FailureClass)),
        pack=st.sampled_from([1, 1, 2, 3, 8]),
        again=st.booleans(),
    )
    def fail(self, number: int, back: int, cls: FailureClass, pack: int, again: bool) -> None:
        model, key, failure = self.trials[number], self.key(number, back), Failure(cls, "died")
        if not self.holds(number, back):
            if not self.ended_before(key, f"failed: {cls}"):
                with pytest.raises(StaleAttempt):
                    self.records.fail(key, failure, pack=pack)
            return
        width = min(pack, model.pack_limit or pack)
        state = TrialState.QUEUED
        if cls in HOPELESS:
            state = TrialState.FAILED
        elif cls not in UNCOUNTED and width > 1:
            model.pack_limit = width // 2
        elif cls not in UNCOUNTED:
            model.failures += 1
            if model.failures > MAX_FAILURES or cls is FailureClass.MEMORY:
                state = TrialState.FAILED
        state = self.redirected(model, state)
        for _ in range(1 + again):
            assert self.records.fail(key, failure, pack=pack) is state
        self.end(number, state)

    @rule(
        number=numbers,
        back=behind,
        goal=st.sampled_from([TrialState.QUEUED, TrialState.PAUSED, TrialState.CANCELLED]),
        again=st.booleans(),
    )
    def release(self, number: int, back: int, goal: TrialState, again: bool) -> None:
        model, key = self.trials[number], self.key(number, back)
        if not self.holds(number, back):
            if not self.ended_before(key, f"released: {goal}"):
                with pytest.raises(StaleAttempt):
                    self.records.release(key, goal, "why")
            return
        for _ in range(1 + again):
            self.records.release(key, goal, "why")
        self.end(number, self.redirected(model, goal))

    # The scheduler's actions, and time.

    @rule(seconds=st.sampled_from([1.0, LEASE_S - 1, LEASE_S, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_s(seconds)

    @rule()
    def expire(self) -> None:
        late = [
            number
            for number, model in enumerate(self.trials)
            if model.lease_until is not None and model.lease_until < self.clock.now
        ]
        assert [key.trial for key in self.records.expire_leases()] == late
        for number in late:
            self.end(number, self.redirected(self.trials[number], TrialState.QUEUED))

    @rule(state=st.sampled_from(sorted(SweepState)))
    def move_sweep(self, state: SweepState) -> None:
        with self.records.deciding(SWEEP) as decision:
            decision.set_state(state, "why")
        self.sweep = state

    # The user's actions.

    @rule(
        answer=st.sampled_from([None, Answer.PAUSE, Answer.STOP, Answer.CANCEL]), number=st.none() | numbers
    )
    def ask(self, answer: Answer | None, number: int | None) -> None:
        with self.records.deciding(SWEEP) as decision:
            decision.ask(answer, number, "why")
        strength = [None, Answer.PAUSE, Answer.STOP, Answer.CANCEL]
        for model in self.chosen(number):
            takes_back = answer is None and model.asked is Answer.PAUSE
            if model.state is TrialState.RUNNING and (
                takes_back or strength.index(answer) > strength.index(model.asked)
            ):
                model.asked = answer

    @rule(number=numbers)
    def cancel_trial(self, number: int) -> None:
        self.records.cancel_trial(TrialKey(SWEEP, number), "why")
        model = self.trials[number]
        if model.state is TrialState.RUNNING:
            model.asked = Answer.CANCEL
        elif model.state not in FINAL:
            self.move(model, TrialState.CANCELLED)

    @rule(
        goal=st.sampled_from([TrialState.QUEUED, TrialState.PAUSED, TrialState.CANCELLED]),
        number=st.none() | numbers,
    )
    def move_trials(self, goal: TrialState, number: int | None) -> None:
        slate = {"failures": 0, "pack_limit": None} if goal is TrialState.QUEUED else {}
        with self.records.deciding(SWEEP) as decision:
            moved = decision.move(goal, "why", number, **slate)
        going = [
            m for m in self.chosen(number) if m.state is not TrialState.RUNNING and goal in MOVES[m.state]
        ]
        assert moved == len(going)
        for model in going:
            self.move(model, goal)
            if slate:
                model.failures, model.pack_limit = 0, None

    # Invariants.

    @invariant()
    def records_are_the_model(self) -> None:
        assert self.records.sweep(SWEEP).state is self.sweep
        for model, trial in zip(self.trials, self.records.trials(SWEEP), strict=True):
            kept = (trial.state, trial.attempt, trial.failures, trial.lease_until, trial.epochs)
            assert kept == (model.state, model.attempt, model.failures, model.lease_until, model.epochs)
            assert (trial.state in FINAL) is (trial.finished_at is not None)
            assert (trial.state in COUNTED) is (trial.value is not None)

    @invariant()
    def attempts_are_numbered_and_one_is_open_at_most(self) -> None:
        for number, model in enumerate(self.trials):
            attempts = self.records.attempts(SWEEP, number)
            assert [one.number for one in attempts] == list(range(1, model.attempt + 1))
            live = [one.number for one in attempts if one.ended_at is None]
            assert live == ([model.attempt] if model.state is TrialState.RUNNING else [])
            for earlier, later in pairwise(attempts):
                assert earlier.ended_at is not None
                assert earlier.ended_at <= later.started_at, "leases never overlap"

    @invariant()
    def epochs_have_no_gap_and_no_repeat(self) -> None:
        epochs = self.records.epochs(SWEEP)
        for number, model in enumerate(self.trials):
            assert [one.epoch for one in epochs.get(number, [])] == list(range(1, model.epochs + 1))

    @invariant()
    def the_journal_replayed_gives_the_states(self) -> None:
        states: dict[int | None, str] = {}
        counted = dict.fromkeys(range(TRIALS), 0)
        for entry in self.records.journal(SWEEP):
            assert entry.reason, entry
            if entry.state is None:
                continue
            before = states.get(entry.trial)
            if entry.trial is not None and before is not None:
                assert TrialState(entry.state) in MOVES[TrialState(before)], entry
                counted[entry.trial] += entry.state in COUNTED
            states[entry.trial] = entry.state
        assert states.pop(None) == self.sweep
        assert states == {number: model.state for number, model in enumerate(self.trials)}
        assert counted == {number: int(model.state in COUNTED) for number, model in enumerate(self.trials)}

    # The model's own rules.

    def key(self, number: int, back: int) -> AttemptKey:
        return AttemptKey(SWEEP, number, self.trials[number].attempt - back)

    def holds(self, number: int, back: int) -> bool:
        return back == 0 and self.trials[number].state is TrialState.RUNNING

    def chosen(self, number: int | None) -> list[Model]:
        return self.trials if number is None else [self.trials[number]]

    def ended_before(self, key: AttemptKey, outcome: str) -> bool:
        attempts = self.records.attempts(SWEEP, key.trial)
        return any(one.number == key.attempt and one.outcome == outcome for one in attempts)

    def answer(self, model: Model) -> Answer:
        if model.asked is Answer.CANCEL or self.sweep.final:
            return Answer.CANCEL
        return model.asked or (Answer.PAUSE if self.sweep is SweepState.PAUSED else Answer.GO_ON)

    def redirected(self, model: Model, wanted: TrialState) -> TrialState:
        if wanted not in (TrialState.QUEUED, TrialState.PAUSED):
            return wanted
        asked = {Answer.CANCEL: TrialState.CANCELLED, Answer.PAUSE: TrialState.PAUSED}
        return asked.get(self.answer(model), TrialState.QUEUED)

    def end(self, number: int, state: TrialState) -> None:
        self.trials[number].lease_until = None
        self.move(self.trials[number], state)

    def move(self, model: Model, state: TrialState) -> None:
        model.state, model.asked = state, None


# Without shrinking, which takes minutes: thirty steps can be read as they are.
RecordsMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
TestRecordsMachine = RecordsMachine.TestCase

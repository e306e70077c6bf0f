"""The contract for workers, in every store: claims, leases, answers and results."""

from __future__ import annotations

import math

import pytest
from recorded import LEASE_S, FakeClock, checkpoint, claim, epoch, progress, put_sweep, result

from kerasweep.jobs.errors import IllegalMove, StaleAttempt
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import (
    Answer,
    AttemptKey,
    SweepState,
    TrialKey,
    TrialState,
)

SWEEP = "abcd1234"
TRIAL = TrialKey(SWEEP, 0)


def state_of(records: Records, trial: int = 0) -> TrialState:
    return records.trial(TrialKey(SWEEP, trial)).state


class TestClaim:
    def test_gives_what_a_worker_needs(self, records: Records) -> None:
        put_sweep(records)
        claimed = claim(records)
        assert claimed.key == AttemptKey(SWEEP, 0, 1)
        assert claimed.sweep == records.sweep(SWEEP)
        assert (claimed.params, claimed.seed, claimed.pack_limit) == ({"learning_rate": 0.01}, 7, None)
        assert (claimed.checkpoints, claimed.decisions) == ((), {})

    def test_five_equal_hints_make_one_attempt(self, records: Records) -> None:
        put_sweep(records)
        claims = [records.claim(TRIAL, f"w{number}", LEASE_S) for number in range(5)]
        assert [bool(claimed) for claimed in claims] == [True, False, False, False, False]
        assert records.trial(TRIAL).attempt == 1

    @pytest.mark.parametrize("key", [TrialKey(SWEEP, 9), TrialKey("none5678", 0)])
    def test_what_is_not_on_record_cannot_be_claimed(self, records: Records, key: TrialKey) -> None:
        put_sweep(records)
        assert records.claim(key, "w1", LEASE_S) is None

    @pytest.mark.parametrize("state", [state for state in SweepState if state is not SweepState.RUNNING])
    def test_only_running_sweeps_give_trials(self, records: Records, state: SweepState) -> None:
        put_sweep(records)
        with records.deciding(SWEEP) as decision:
            decision.set_state(state, "for the test")
        assert records.claim(TRIAL, "w1", LEASE_S) is None

    def test_an_ended_trial_is_not_taken_again(self, records: Records) -> None:
        put_sweep(records)
        records.finish(claim(records).key, result())
        assert records.claim(TRIAL, "w1", LEASE_S) is None

    def test_the_next_attempt_gets_the_checkpoints_newest_first(self, records: Records) -> None:
        put_sweep(records)
        first = claim(records)
        records.record([progress(first.key, 1, 2)], LEASE_S)
        records.release(first.key, TrialState.QUEUED, "preempted", progress(first.key, 3))
        second = claim(records)
        assert second.key.attempt == 2
        assert [ref.epoch for ref in second.checkpoints] == [3, 2, 1]
        assert second.checkpoints[0] == checkpoint(first.key, 3)

    def test_keeps_the_time_of_the_first_start(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        started = clock.now
        records.release(claim(records).key, TrialState.QUEUED, "preempted")
        clock.pass_s(60)
        claim(records)
        assert records.trial(TRIAL).started_at == started
        assert [attempt.started_at for attempt in records.attempts(SWEEP)] == [started, started + 60]


class TestRecord:
    def test_keeps_the_lease(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        key = claim(records).key
        for _ in range(5):
            clock.pass_s(LEASE_S - 1)
            assert records.record([Progress(key)], LEASE_S) == {key: Answer.GO_ON}
            assert records.expire_leases() == []
        clock.pass_s(LEASE_S + 1)
        assert records.expire_leases() == [TRIAL]

    def test_keeps_epochs_checkpoints_and_logs(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        records.record([progress(key, 1, 2, logs=("a", "b"))], LEASE_S)
        records.record([progress(key, 3, logs=("c",))], LEASE_S)
        assert [(one.epoch, one.metrics, one.attempt) for one in records.epochs(SWEEP)[0]] == [
            (1, {"val_loss": 1.0}, 1),
            (2, {"val_loss": 0.5}, 1),
            (3, {"val_loss": 1 / 3}, 1),
        ]
        assert records.trial(TRIAL).epochs == 3
        assert [ref.epoch for ref in records.artifacts(SWEEP)[0]] == [3, 2, 1]
        assert [text for *_, text in records.logs(SWEEP, 0)] == ["a", "b", "c"]

    def test_the_same_progress_twice_is_kept_once(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        for _ in range(2):  # as after a lost answer
            records.record([Progress(key, (epoch(1),), (checkpoint(key, 1),))], LEASE_S)
        assert len(records.epochs(SWEEP)[0]) == len(records.artifacts(SWEEP)[0]) == 1

    def test_answers_each_attempt_of_a_batch(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, trials=5)
        keys = [claim(records, trial=number).key for number in range(4)]
        records.finish(keys[1], result())
        with records.deciding(SWEEP) as decision:
            decision.ask(Answer.PAUSE, 2)
            decision.ask(Answer.CANCEL, 3)
        unclaimed = AttemptKey(SWEEP, 4, 1)
        older = AttemptKey(SWEEP, 0, 0)
        answers = records.record([Progress(key) for key in [*keys, unclaimed, older]], LEASE_S)
        assert answers == {
            keys[0]: Answer.GO_ON,
            keys[1]: Answer.STALE,
            keys[2]: Answer.PAUSE,
            keys[3]: Answer.CANCEL,
            unclaimed: Answer.STALE,
            older: Answer.STALE,
        }

    def test_nothing_to_say_asks_nothing(self, records: Records) -> None:
        assert records.record([], LEASE_S) == {}

    @pytest.mark.parametrize(
        ("state", "answer"),
        [
            (SweepState.PAUSED, Answer.PAUSE),
            (SweepState.CANCELLED, Answer.CANCEL),
            (SweepState.FAILED, Answer.CANCEL),
            (SweepState.COMPLETED, Answer.CANCEL),
        ],
    )
    def test_the_sweep_speaks_for_its_trials(
        self, records: Records, state: SweepState, answer: Answer
    ) -> None:
        put_sweep(records)
        key = claim(records).key
        with records.deciding(SWEEP) as decision:
            decision.set_state(state, "for the test")
        assert records.record([Progress(key)], LEASE_S) == {key: answer}

    def test_a_stale_attempt_writes_nothing(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        stale = claim(records).key
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        fresh = claim(records, worker="w2").key
        before = records.trial(TRIAL)
        clock.pass_s(1)
        said = progress(stale, 1, logs=("late",))
        assert records.record([said, Progress(fresh)], LEASE_S)[stale] is Answer.STALE
        assert (records.epochs(SWEEP), records.artifacts(SWEEP), records.logs(SWEEP)) == ({}, {}, [])
        assert before.lease_until is not None
        assert records.trial(TRIAL).lease_until == before.lease_until + 1, "only the fresh attempt renewed it"

    def test_a_resumed_attempt_overwrites_the_epochs_that_it_trains_again(self, records: Records) -> None:
        put_sweep(records)
        first = claim(records).key
        records.record([progress(first, 1, 2, 3)], LEASE_S)
        records.release(first, TrialState.QUEUED, "preempted")
        second = claim(records).key
        records.record([Progress(second, (epoch(2, val_loss=9.0),))], LEASE_S)
        assert [(one.epoch, one.attempt) for one in records.epochs(SWEEP)[0]] == [(1, 1), (2, 2), (3, 1)]
        assert records.epochs(SWEEP)[0][1].metrics == {"val_loss": 9.0}


class TestFinish:
    def test_keeps_the_result(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        key = claim(records).key
        clock.pass_s(5)
        model = ArtifactRef("model", "sweeps/m.keras", "e" * 64, 5_000_000_000, 3)
        records.finish(key, result(0.25, model=model), progress(key, 1, 2, 3))
        trial = records.trial(TRIAL)
        assert (trial.state, trial.value, trial.best_epoch, trial.epochs) == (
            TrialState.COMPLETED,
            0.25,
            3,
            3,
        )
        assert (trial.digest, trial.metrics, trial.facts) == ("d" * 64, {"val_loss": 0.25}, {"device": "CPU"})
        assert (trial.finished_at, trial.lease_until, trial.failure) == (clock.now, None, None)
        assert records.artifacts(SWEEP, 0, "model") == {0: [model]}
        assert len(records.epochs(SWEEP)[0]) == 3
        (attempt,) = records.attempts(SWEEP)
        assert (attempt.outcome, attempt.ended_at) == ("completed", clock.now)

    def test_is_idempotent(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        key = claim(records).key
        records.finish(key, result(), progress(key, 1))
        before = records.trial(TRIAL), records.journal(SWEEP)
        clock.pass_s(9)
        records.finish(key, result(), progress(key, 1))
        assert (records.trial(TRIAL), records.journal(SWEEP)) == before

    def test_another_result_of_the_same_attempt_is_refused(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        records.finish(key, result())
        with pytest.raises(StaleAttempt):
            records.finish(key, result(digest="f" * 64))
        with pytest.raises(StaleAttempt):
            records.finish(key, result(state=TrialState.STOPPED))

    def test_the_first_attempt_is_refused_after_the_second_claimed(
        self, records: Records, clock: FakeClock
    ) -> None:
        put_sweep(records)
        first = claim(records).key
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        second = claim(records, worker="w2").key
        before = records.trial(TRIAL)
        with pytest.raises(StaleAttempt, match="no longer holds"):
            records.finish(first, result(0.1), progress(first, 1))
        assert (records.trial(TRIAL), records.epochs(SWEEP)) == (before, {})
        records.finish(second, result(0.2))
        with pytest.raises(StaleAttempt):  # even with the very same result
            records.finish(first, result(0.2))
        assert records.trial(TRIAL).value == 0.2

    def test_a_late_finish_counts_while_nobody_else_took_the_trial(
        self, records: Records, clock: FakeClock
    ) -> None:
        put_sweep(records)
        key = claim(records).key
        clock.pass_s(10 * LEASE_S)
        records.finish(key, result())
        assert records.expire_leases() == []
        assert state_of(records) is TrialState.COMPLETED

    def test_drops_epochs_that_an_attempt_before_went_further(self, records: Records) -> None:
        put_sweep(records)
        first = claim(records).key
        records.record([progress(first, 1, 2, 3, 4, 5)], LEASE_S)
        records.release(first, TrialState.QUEUED, "preempted")
        records.finish(claim(records).key, result(epochs=3))
        assert [one.epoch for one in records.epochs(SWEEP)[0]] == [1, 2, 3]

    @pytest.mark.parametrize("state", [TrialState.FAILED, TrialState.QUEUED, TrialState.CANCELLED])
    def test_a_result_has_a_state_that_counts(self, records: Records, state: TrialState) -> None:
        put_sweep(records)
        key = claim(records).key
        with pytest.raises(IllegalMove, match="completed or stopped"):
            records.finish(key, result(state=state))
        assert state_of(records) is TrialState.RUNNING

    def test_an_infinite_value_and_one_that_is_no_number(self, records: Records) -> None:
        put_sweep(records, trials=2)
        records.finish(claim(records, trial=0).key, result(math.inf))
        records.finish(claim(records, trial=1).key, result(math.nan))
        assert [trial.value for trial in records.trials(SWEEP)] == [math.inf, None]
        assert math.isnan(records.trial(TrialKey(SWEEP, 1)).metrics["val_loss"])


class TestDecide:
    def test_the_first_choice_binds(self, records: Records) -> None:
        put_sweep(records)
        assert records.decide(SWEEP, "xla:1234", False, "plain was faster") is False
        assert records.decide(SWEEP, "xla:1234", True, "XLA was faster") is False
        assert claim(records).decisions == {"xla:1234": False}
        assert [entry.reason for entry in records.journal(SWEEP) if entry.event == "decided"] == [
            "xla:1234 = False: plain was faster"
        ]

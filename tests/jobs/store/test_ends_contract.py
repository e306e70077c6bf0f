"""How attempts fail or are released, in every store: retries and their limits, pauses and cancels."""

from __future__ import annotations

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, checkpoint, claim, progress, put_sweep, with_retries

from kerasweep.jobs.errors import IllegalMove, StaleAttempt
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import (
    Answer,
    AttemptKey,
    Failure,
    FailureClass,
    SweepState,
    TrialKey,
    TrialState,
)
from kerasweep.scheduler.deciding.control import retry

SWEEP = "abcd1234"
TRIAL = TrialKey(SWEEP, 0)


def state_of(records: Records, trial: int = 0) -> TrialState:
    return records.trial(TrialKey(SWEEP, trial)).state


def pause_sweep(records: Records) -> None:
    with records.deciding(SWEEP) as decision:
        decision.set_state(SweepState.PAUSED, "by hand")


def ask(records: Records, answer: Answer | None) -> int:
    with records.deciding(SWEEP) as decision:
        return decision.ask(answer, 0, "by hand")


class TestFail:
    @pytest.mark.parametrize("cls", [FailureClass.USER, FailureClass.DIVERGED])
    def test_failures_that_a_retry_cannot_fix_are_final(self, records: Records, cls: FailureClass) -> None:
        put_sweep(records)
        key = claim(records).key
        assert (
            records.fail(key, Failure(cls, "ValueError: no"), progress=progress(key, 1)) is TrialState.FAILED
        )
        trial = records.trial(TRIAL)
        assert trial.failure == Failure(cls, "ValueError: no")
        assert (trial.failures, trial.finished_at is not None) == (0, True)
        assert len(records.epochs(SWEEP)[0]) == 1, "the metrics are kept"

    @pytest.mark.parametrize(
        ("cls", "bound"), [(FailureClass.MACHINE, "max_machine"), (FailureClass.STORE, "max_store")]
    )
    def test_what_does_not_count_is_tried_again_up_to_a_bound_of_its_own(
        self, records: Records, cls: FailureClass, bound: str
    ) -> None:
        put_sweep(records, sweep=with_retries(max_failures=0, **{bound: 4}))
        other = FailureClass.STORE if cls is FailureClass.MACHINE else FailureClass.MACHINE
        assert records.fail(claim(records).key, Failure(other, "of another class")) is TrialState.QUEUED
        for _ in range(4):
            assert records.fail(claim(records).key, Failure(cls, "gone")) is TrialState.QUEUED
        assert (records.trial(TRIAL).failures, records.trial(TRIAL).failure) == (0, None)
        assert records.fail(claim(records).key, Failure(cls, "gone")) is TrialState.FAILED
        assert records.trial(TRIAL).failure == Failure(cls, "gone")
        assert "5 times, 4 are allowed" in records.journal(SWEEP)[-1].reason

    def test_a_retry_by_hand_gives_a_clean_slate(self, records: Records) -> None:
        put_sweep(records, sweep=with_retries(max_machine=1))
        full = Failure(FailureClass.MACHINE, "the disk is full")
        for _ in range(2):
            records.fail(claim(records).key, full)
        retry(records, SWEEP, 0)
        assert records.fail(claim(records).key, full) is TrialState.QUEUED
        assert records.fail(claim(records).key, full) is TrialState.FAILED

    def test_lost_workers_and_preemptions_have_a_bound(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, trials=2, sweep=with_retries(max_interruptions=1))
        for _ in range(2):
            claim(records)
            clock.pass_s(LEASE_S + 1)
            records.expire_leases()
            records.release(claim(records, trial=1).key, TrialState.QUEUED, "preempt")
        lost, preempted = (records.trial(TrialKey(SWEEP, number)).failure for number in (0, 1))
        assert lost == Failure(FailureClass.LOST, "the lease of w1 ran out")
        assert preempted == Failure(FailureClass.PREEMPTED, "preempt")

    def test_setbacks_are_counted_while_the_trial_is_open(self, records: Records) -> None:
        put_sweep(records)
        for _ in range(2):
            records.fail(claim(records).key, Failure(FailureClass.STORE, "403"))
        key = claim(records).key
        records.waits(key, "its model is not saved yet")
        waiting, store = records.setbacks(SWEEP)
        assert (waiting.cls, waiting.message) == (None, "its model is not saved yet")
        assert (store.cls, store.count, store.message) == (FailureClass.STORE, 2, "403")
        records.waits(key, "")
        assert [one.cls for one in records.setbacks(SWEEP)] == [FailureClass.STORE]
        records.fail(key, Failure(FailureClass.USER, "no"))
        assert records.setbacks(SWEEP) == []

    def test_long_messages_are_cut_with_a_note(self, records: Records) -> None:
        put_sweep(records)
        records.fail(claim(records).key, Failure(FailureClass.USER, "z" * (30 << 20)))
        kept = records.trial(TRIAL).failure
        assert kept is not None
        assert len(kept.message) < 5_000
        assert "characters left out" in kept.message

    @pytest.mark.parametrize("cls", [FailureClass.CRASH, FailureClass.HANG])
    def test_crashes_and_hangs_are_retried_up_to_the_limit(self, records: Records, cls: FailureClass) -> None:
        put_sweep(records, sweep=a_sweep(max_failures=2))
        ends = [records.fail(claim(records).key, Failure(cls, "trainer died")) for _ in range(3)]
        assert ends == [TrialState.QUEUED, TrialState.QUEUED, TrialState.FAILED]
        assert (records.trial(TRIAL).failures, records.trial(TRIAL).failure) == (
            3,
            Failure(cls, "trainer died"),
        )
        assert records.claim(TRIAL, "w1", LEASE_S) is None

    @pytest.mark.parametrize("cls", [FailureClass.MEMORY, FailureClass.CRASH, FailureClass.HANG])
    def test_a_pack_is_halved_down_to_one_at_no_charge(self, records: Records, cls: FailureClass) -> None:
        put_sweep(records, sweep=a_sweep(max_failures=0))
        limits = []
        for width in (12, 6, 3):
            assert records.fail(claim(records).key, Failure(cls, "died"), pack=width) is TrialState.QUEUED
            limits.append(claim(records).pack_limit)
            records.release(
                AttemptKey(SWEEP, 0, records.trial(TRIAL).attempt), TrialState.QUEUED, "preempted"
            )
        assert limits == [6, 3, 1]
        assert records.trial(TRIAL).failures == 0
        assert records.fail(claim(records).key, Failure(cls, "died"), pack=1) is TrialState.FAILED

    def test_a_worker_that_ignores_the_limit_ends_too(self, records: Records) -> None:
        put_sweep(records, sweep=a_sweep(max_failures=0))
        crash = Failure(FailureClass.CRASH, "died")
        ends = [records.fail(claim(records).key, crash, pack=8) for _ in range(4)]
        assert ends == [TrialState.QUEUED] * 3 + [TrialState.FAILED]

    def test_out_of_memory_alone_is_final(self, records: Records) -> None:
        put_sweep(records)
        assert records.fail(claim(records).key, Failure(FailureClass.MEMORY, "oom")) is TrialState.FAILED

    def test_is_idempotent(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        crash = Failure(FailureClass.CRASH, "died")
        assert records.fail(key, crash) is records.fail(key, crash) is TrialState.QUEUED
        assert records.trial(TRIAL).failures == 1

    def test_a_stale_attempt_changes_nothing(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        stale = claim(records).key
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        claim(records, worker="w2")
        before = records.trial(TRIAL), records.journal(SWEEP), records.attempts(SWEEP)
        with pytest.raises(StaleAttempt):
            records.fail(stale, Failure(FailureClass.USER, "late"))
        with pytest.raises(StaleAttempt):
            records.release(stale, TrialState.QUEUED, "late")
        assert (records.trial(TRIAL), records.journal(SWEEP), records.attempts(SWEEP)) == before

    def test_a_cancel_overrides_a_retry(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        ask(records, Answer.CANCEL)
        assert records.fail(key, Failure(FailureClass.CRASH, "died")) is TrialState.CANCELLED


class TestRelease:
    def test_gives_the_trial_back_at_no_charge(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        records.release(key, TrialState.QUEUED, "preempted", progress(key, 1))
        trial = records.trial(TRIAL)
        assert (trial.state, trial.failures, trial.lease_until) == (TrialState.QUEUED, 0, None)
        assert [hint.key for hint in records.unhinted()] == [TRIAL]
        assert claim(records, worker="w2").checkpoints == (checkpoint(key, 1),)

    def test_is_idempotent(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        records.release(key, TrialState.QUEUED, "preempted")
        journal = records.journal(SWEEP)
        records.release(key, TrialState.QUEUED, "preempted")
        assert records.journal(SWEEP) == journal

    @pytest.mark.parametrize("answer", [Answer.PAUSE, Answer.CANCEL])
    def test_what_was_asked_meanwhile_is_kept(self, records: Records, answer: Answer) -> None:
        put_sweep(records)
        key = claim(records).key
        ask(records, answer)
        records.release(key, TrialState.QUEUED, "preempted before it heard of it")
        assert (
            state_of(records)
            is {Answer.PAUSE: TrialState.PAUSED, Answer.CANCEL: TrialState.CANCELLED}[answer]
        )

    def test_a_paused_sweep_pauses_what_is_given_back(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        pause_sweep(records)
        records.release(key, TrialState.PAUSED, "as asked")
        assert state_of(records) is TrialState.PAUSED

    def test_a_pause_that_was_taken_back_does_not_stick(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        assert ask(records, Answer.PAUSE) == 1
        assert records.record([Progress(key)], LEASE_S) == {key: Answer.PAUSE}
        ask(records, None)
        records.release(key, TrialState.PAUSED, "as asked")
        assert state_of(records) is TrialState.QUEUED

    def test_a_revoked_task_cancels_without_being_asked(self, records: Records) -> None:
        put_sweep(records)
        records.release(claim(records).key, TrialState.CANCELLED, "revoked in Flower")
        assert state_of(records) is TrialState.CANCELLED
        assert records.trial(TRIAL).finished_at is not None

    @pytest.mark.parametrize("target", [TrialState.RUNNING, TrialState.COMPLETED, TrialState.FAILED])
    def test_other_targets_are_refused(self, records: Records, target: TrialState) -> None:
        put_sweep(records)
        key = claim(records).key
        with pytest.raises(IllegalMove):
            records.release(key, target, "no")
        assert state_of(records) is TrialState.RUNNING

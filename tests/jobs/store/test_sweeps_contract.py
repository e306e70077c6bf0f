"""The contract for the scheduler, in every store: decisions, lost leases, hints and the journal."""

from __future__ import annotations

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, add_trials, claim, finish, progress, put_sweep, result

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import NewTrial, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import (
    MOVES,
    Answer,
    AttemptKey,
    Failure,
    FailureClass,
    SweepState,
    TrialKey,
    TrialState,
)

SWEEP = "abcd1234"


def states(records: Records) -> list[str]:
    return [str(trial.state) for trial in records.trials(SWEEP)]


def one_of_each(records: Records) -> None:
    """Record a trial in every state, in the order of `TrialState`."""
    put_sweep(records, trials=len(TrialState))
    claim(records, trial=1)
    with records.deciding(SWEEP) as decision:
        decision.move(TrialState.PAUSED, "by hand", 2)
        decision.move(TrialState.CANCELLED, "by hand", 7)
    key = claim(records, trial=3).key
    at_its_rung = Result(TrialState.WAITING, 0.5, 1, 1, {"val_loss": 0.5}, "0" * 64)
    records.hold(key, at_its_rung, ArtifactRef("checkpoint", "c", "c" * 64, 1, 1), Progress(key))
    finish(records, 4, 0.5)
    records.finish(claim(records, trial=5).key, result(state=TrialState.STOPPED))
    records.fail(claim(records, trial=6).key, Failure(FailureClass.USER, "ValueError"))
    assert states(records) == list(TrialState)


class TestCreate:
    def test_keeps_the_sweep(self, records: Records, clock: FakeClock) -> None:
        sweep = a_sweep()
        records.create_sweep(sweep)
        kept = records.sweep(SWEEP)
        assert (kept.spec, kept.source, kept.engine, kept.entry) == (
            sweep.spec,
            sweep.source,
            "auto",
            "train.py",
        )
        assert (kept.bundle.key, kept.bundle.sha256) == (sweep.bundle.key, sweep.bundle.sha256)
        assert (kept.state, kept.created_at, kept.finished_at) == (SweepState.RUNNING, clock.now, None)
        assert records.counts(SWEEP) == {}
        (entry,) = records.journal(SWEEP)
        assert (entry.event, entry.state, entry.trial) == ("submitted", "running", None)

    def test_an_unknown_sweep_is_reported(self, records: Records) -> None:
        with pytest.raises(NotFound, match="got id 'none'"), records.deciding("none"):
            pass


class TestDecision:
    def test_adds_trials_with_their_reasons(self, records: Records) -> None:
        params = {
            "λ": [0.1, None],
            "training.schedule": {"step_decay": {"every": 10}},
            "ok": True,
            "π": "µ\t'\"",
        }
        records.create_sweep(a_sweep())
        add_trials(records, SWEEP, [0, 1], params)
        assert [(trial.number, trial.params, trial.seed) for trial in records.trials(SWEEP)] == [
            (0, params, 7),
            (1, params, 8),
        ]
        assert [(one.trial, one.event, one.state, one.reason) for one in records.journal(SWEEP)][1:] == [
            (0, "suggested", "queued", "drawn at random"),
            (1, "suggested", "queued", "drawn at random"),
        ]

    def test_is_written_whole_or_not_at_all(self, records: Records) -> None:
        put_sweep(records)

        def decide_and_fail() -> None:
            with records.deciding(SWEEP) as decision:
                decision.add_trials([NewTrial(1, {}, 1, "more")])
                decision.set_state(SweepState.PAUSED, "by hand")
                decision.move(TrialState.PAUSED, "by hand")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            decide_and_fail()
        assert states(records) == ["queued"]
        assert records.sweep(SWEEP).state is SweepState.RUNNING
        assert len(records.journal(SWEEP)) == 2

    def test_sees_what_it_wrote(self, records: Records) -> None:
        put_sweep(records, trials=3)
        finish(records, 1, 0.5)
        with records.deciding(SWEEP) as decision:
            decision.move(TrialState.CANCELLED, "by hand", 2)
            assert decision.counts() == {
                TrialState.QUEUED: 1,
                TrialState.COMPLETED: 1,
                TrialState.CANCELLED: 1,
            }
            assert [trial.state for trial in decision.trials()] == ["queued", "completed", "cancelled"]

    def test_the_mark_changes_whatever_becomes_of_a_trial_without_result(
        self, records: Records, clock: FakeClock
    ) -> None:
        sweep = put_sweep(records, trials=1)
        add_trials(records, sweep.id, [90_000])
        marks = []
        for number in (0, 90_000):
            records.fail(claim(records, trial=number).key, Failure(FailureClass.USER, "it raised"))
            with records.deciding(SWEEP) as decision:
                marks.append(decision.mark_without_result())
                decision.move(TrialState.QUEUED, "by hand", number)
                marks.append(decision.mark_without_result())
        clock.pass_s(1)
        records.fail(claim(records, trial=0).key, Failure(FailureClass.USER, "it raised"))
        with records.deciding(SWEEP) as decision:
            marks.append(decision.mark_without_result())
            assert list(decision.ended_without_result()) == [0]
        assert len({*marks}) == 4, "none is the same, but those of no such trial"

    def test_first_failed_are_those_that_failed_before_any_other_ended(
        self, records: Records, clock: FakeClock
    ) -> None:
        put_sweep(records, trials=4)
        for number in (2, 0, 3):
            clock.pass_s(1)
            records.fail(claim(records, trial=number).key, Failure(FailureClass.USER, "it raised"))
        clock.pass_s(1)
        finish(records, 1, 0.5)
        with records.deciding(SWEEP) as decision:
            assert [trial.number for trial in decision.first_failed(2)] == [2, 0]
            decision.move(TrialState.QUEUED, "by hand", 2)
        finish(records, 2, 0.5)
        with records.deciding(SWEEP) as decision:
            assert [trial.number for trial in decision.first_failed(2)] == [0, 3]
            assert len(decision.first_failed(3)) < 3, "only two have failed before one completed"

    @pytest.mark.parametrize("target", [TrialState.QUEUED, TrialState.PAUSED, TrialState.CANCELLED])
    def test_moves_what_may_go_and_leaves_the_rest(self, records: Records, target: TrialState) -> None:
        one_of_each(records)
        behind = len(records.journal(SWEEP))
        with records.deciding(SWEEP) as decision:
            moved = decision.move(target, "by hand")
        before = list(TrialState)
        may_go = [target in MOVES[state] and state is not TrialState.RUNNING for state in before]
        assert states(records) == [
            target if may else state for state, may in zip(before, may_go, strict=True)
        ]
        assert moved == sum(may_go)
        story = records.journal(SWEEP)[behind:]
        assert [one.trial for one in story] == [number for number, may in enumerate(may_go) if may]
        assert {(one.event, one.state, one.reason) for one in story} == {(target, target, "by hand")}

    def test_a_retry_starts_with_a_clean_slate(self, records: Records) -> None:
        put_sweep(records, sweep=a_sweep(max_failures=0))
        records.fail(claim(records).key, Failure(FailureClass.CRASH, "died"))
        with records.deciding(SWEEP) as decision:
            decision.move(TrialState.QUEUED, "retry", failures=0, failure_class=None, failure_message=None)
        trial = records.trial(TrialKey(SWEEP, 0))
        assert (trial.state, trial.failures, trial.failure, trial.finished_at) == ("queued", 0, None, None)
        assert claim(records).key.attempt == 2

    def test_thousands_of_trials_move_at_once(self, records: Records) -> None:
        put_sweep(records, trials=2500)
        with records.deciding(SWEEP) as decision:
            assert decision.move(TrialState.CANCELLED, "by hand") == 2500
        assert records.counts(SWEEP) == {TrialState.CANCELLED: 2500}
        assert sum(one.state == "cancelled" for one in records.journal(SWEEP)) == 2500

    def test_a_stronger_request_is_not_replaced_by_a_weaker_one(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        expected = [
            (Answer.PAUSE, Answer.PAUSE),
            (None, Answer.GO_ON),
            (Answer.STOP, Answer.STOP),
            (Answer.PAUSE, Answer.STOP),
            (None, Answer.STOP),
            (Answer.CANCEL, Answer.CANCEL),
            (Answer.STOP, Answer.CANCEL),
            (None, Answer.CANCEL),
        ]
        for wish, answer in expected:
            with records.deciding(SWEEP) as decision:
                decision.ask(wish)
            assert records.record([Progress(key)], LEASE_S) == {key: answer}, wish

    def test_asks_only_running_trials_and_records_it_once(self, records: Records) -> None:
        one_of_each(records)
        behind = len(records.journal(SWEEP))
        for _ in range(2):
            with records.deciding(SWEEP) as decision:
                assert decision.ask(Answer.STOP, reason="the budget is spent") == 1
        story = records.journal(SWEEP)[behind:]
        assert [(one.trial, one.attempt, one.event, one.state) for one in story] == [
            (1, 1, "asked to stop", None)
        ]

    def test_unknown_trials_are_reported(self, records: Records) -> None:
        put_sweep(records, trials=3)
        with records.deciding(SWEEP) as decision, pytest.raises(NotFound, match="from 0 to 2, got 3"):
            decision.trial_state(3)
        records.create_sweep(a_sweep("bcde2345"))
        with pytest.raises(NotFound, match="no trials yet"):
            records.trial(TrialKey("bcde2345", 0))


class TestCancelTrial:
    def test_cancels_whatever_the_trial_does(self, records: Records) -> None:
        one_of_each(records)
        for number in range(len(TrialState)):
            records.cancel_trial(TrialKey(SWEEP, number), "revoked in Flower")
        assert states(records) == [
            "cancelled",
            "running",
            "cancelled",
            "cancelled",
            "completed",
            "stopped",
            "failed",
            "cancelled",
        ]
        key = AttemptKey(SWEEP, 1, 1)
        assert records.record([Progress(key)], LEASE_S) == {key: Answer.CANCEL}


class TestExpireLeases:
    def test_takes_back_what_nobody_renewed(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, trials=3)
        lost = claim(records, trial=0, worker="w1").key
        clock.pass_s(LEASE_S)
        kept = claim(records, trial=1, worker="w2").key
        clock.pass_s(0.5)
        assert records.expire_leases() == [lost.of_trial]
        assert records.expire_leases() == []
        assert states(records) == ["queued", "running", "queued"]
        (attempt,) = records.attempts(SWEEP, 0)
        assert (attempt.outcome, attempt.message) == ("failed: lost", "the lease of w1 ran out")
        assert records.trial(lost.of_trial).failures == 0
        assert lost.of_trial in [hint.key for hint in records.unhinted()]
        assert records.record([Progress(kept)], LEASE_S) == {kept: Answer.GO_ON}

    def test_nothing_expires_before_its_time(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records)
        claim(records)
        clock.pass_s(LEASE_S)
        assert records.expire_leases() == []

    @pytest.mark.parametrize(
        ("wish", "state"),
        [(Answer.PAUSE, "paused"), (Answer.CANCEL, "cancelled"), (Answer.STOP, "queued"), (None, "queued")],
    )
    def test_what_was_asked_of_a_lost_attempt_is_kept(
        self, records: Records, clock: FakeClock, wish: Answer | None, state: str
    ) -> None:
        put_sweep(records)
        claim(records)
        with records.deciding(SWEEP) as decision:
            decision.ask(wish)
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        assert states(records) == [state]

    def test_a_cancelled_sweep_takes_nothing_back_into_its_queue(
        self, records: Records, clock: FakeClock
    ) -> None:
        put_sweep(records)
        claim(records)
        with records.deciding(SWEEP) as decision:
            decision.set_state(SweepState.CANCELLED, "by hand")
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        assert states(records) == ["cancelled"]

    def test_many_sweeps_at_once(self, records: Records, clock: FakeClock) -> None:
        for name in ("cccc1111", "aaaa1111", "bbbb1111"):
            put_sweep(records, 2, a_sweep(name))
            claim(records, name, 1)
            claim(records, name, 0)
        clock.pass_s(LEASE_S + 1)
        assert [str(key) for key in records.expire_leases()] == [
            f"{name}/{number}" for name in ("aaaa1111", "bbbb1111", "cccc1111") for number in (0, 1)
        ]


class TestHints:
    def test_are_due_once_and_again_when_they_are_old(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, trials=3, sweep=a_sweep(gpus=2))
        hints = records.unhinted()
        assert [(hint.key.trial, hint.attempt, hint.gpus, hint.name) for hint in hints] == [
            (number, 1, 2, "digits") for number in range(3)
        ]
        records.mark_hinted(hints)
        assert records.unhinted() == records.unhinted(older_than_s=10) == []
        clock.pass_s(11)
        assert (len(records.unhinted()), len(records.unhinted(older_than_s=10))) == (0, 3)

    def test_only_queued_trials_of_running_sweeps_have_any(self, records: Records) -> None:
        one_of_each(records)
        assert [hint.key.trial for hint in records.unhinted()] == [0]
        with records.deciding(SWEEP) as decision:
            decision.set_state(SweepState.PAUSED, "by hand")
        assert records.unhinted() == []

    def test_a_trial_that_is_queued_again_has_a_fresh_one(self, records: Records) -> None:
        put_sweep(records)
        records.mark_hinted(records.unhinted())
        records.release(claim(records).key, TrialState.QUEUED, "preempted")
        assert [(hint.key.trial, hint.attempt) for hint in records.unhinted()] == [(0, 2)]

    def test_a_late_mark_leaves_a_running_trial_alone(self, records: Records) -> None:
        put_sweep(records)
        hints = records.unhinted()
        key = claim(records).key
        records.mark_hinted(hints)
        records.release(key, TrialState.QUEUED, "preempted")
        assert len(records.unhinted()) == 1

    def test_a_late_mark_of_one_attempt_is_none_of_the_next(self, records: Records) -> None:
        put_sweep(records, trials=2)
        hints = records.unhinted()
        records.release(claim(records).key, TrialState.QUEUED, "preempted")
        records.mark_hinted(hints)
        assert [(hint.key.trial, hint.attempt) for hint in records.unhinted()] == [(0, 2)]

    def test_tell_which_trials_have_waited_at_a_rung(self, records: Records) -> None:
        one_of_each(records)
        with records.deciding(SWEEP) as decision:
            decision.move(TrialState.QUEUED, "among the best", 3, rung=3)
        assert [(hint.key.trial, hint.waited) for hint in records.unhinted()] == [(0, False), (3, True)]

    def test_of_one_sweep_and_so_many(self, records: Records) -> None:
        put_sweep(records, 5)
        put_sweep(records, 5, a_sweep("bcde2345"))
        assert {hint.key.sweep for hint in records.unhinted(sweep="bcde2345")} == {"bcde2345"}
        assert [hint.key.trial for hint in records.unhinted(limit=3)] == [0, 1, 2]


class TestArtifactsOnRecord:
    def test_are_forgotten_by_key(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        records.record([progress(key, *range(1, 1200))], LEASE_S)
        gone = [ref.key for ref in records.artifacts(SWEEP)[0][2:]]
        records.forget_artifacts(gone)
        assert [ref.epoch for ref in records.artifacts(SWEEP)[0]] == [1199, 1198]
        assert records.referenced() == {"bundles/job.zip"} | {ref.key for ref in records.artifacts(SWEEP)[0]}


class TestJournal:
    def test_tells_the_whole_story_of_a_trial(self, records: Records, clock: FakeClock) -> None:
        put_sweep(records, sweep=a_sweep(max_failures=1))
        crash = Failure(FailureClass.CRASH, "trainer died")
        records.fail(claim(records).key, crash, pack=4)
        records.fail(claim(records).key, crash)
        claim(records, worker="w2")
        clock.pass_s(LEASE_S + 1)
        records.expire_leases()
        records.release(claim(records).key, TrialState.QUEUED, "preempted: SIGTERM")
        records.fail(claim(records).key, crash)
        with records.deciding(SWEEP) as decision:
            decision.move(TrialState.QUEUED, "retry asked for by hand", failures=0)
        finish(records, 0, 0.25)
        story = [
            (one.attempt, one.event, one.state, one.reason)
            for one in records.journal(SWEEP)
            if one.trial == 0
        ]
        claimed = ("claimed", "running", "by w1")
        assert story == [
            (None, "suggested", "queued", "drawn at random"),
            (1, *claimed),
            (1, "failed", "queued", "crash: trainer died; tried again in a pack of 2"),
            (2, *claimed),
            (2, "failed", "queued", "crash: trainer died; tried again, failure 1 of 1 allowed"),
            (3, "claimed", "running", "by w2"),
            (3, "lost", "queued", "the lease of w2 ran out"),
            (4, *claimed),
            (4, "released", "queued", "preempted: SIGTERM"),
            (5, *claimed),
            (5, "failed", "failed", "crash: trainer died; failure 2 of 1 allowed"),
            (5, "queued", "queued", "retry asked for by hand"),
            (6, *claimed),
            (6, "completed", "completed", "value 0.25 of epoch 3, after 3 epochs"),
        ]

"""The contract for readers, in every store: names, the best, odd values, and thousands of trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, add_trials, claim, finish, progress, put_sweep, result

from kerasweep.jobs.errors import NotFound
from kerasweep.jobs.excerpt import MESSAGE_CHARS, excerpt
from kerasweep.jobs.store.models import EpochRecord, NewTrial, Progress
from kerasweep.jobs.store.progress import write_progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql.moves import lock_held
from kerasweep.jobs.trial import Failure, FailureClass, SweepState, TrialKey, TrialState

SWEEP = "abcd1234"


class TestFindSweep:
    def test_by_id_beginning_and_name(self, records: Records, clock: FakeClock) -> None:
        for sweep, name in [("abcd1234", "digits"), ("abef5678", "fashion"), ("cdef9012", "digits")]:
            records.create_sweep(a_sweep(sweep, name=name))
            clock.pass_s(1)
        assert records.find_sweep("abcd1234").id == "abcd1234"
        assert records.find_sweep("abc").id == "abcd1234"
        assert records.find_sweep("fashion").id == "abef5678"
        assert records.find_sweep("digits").id == "cdef9012", "the newest"

    def test_a_full_id_comes_before_a_name(self, records: Records, clock: FakeClock) -> None:
        records.create_sweep(a_sweep("abcd1234"))
        clock.pass_s(1)
        records.create_sweep(a_sweep("bcde2345", name="abcd1234"))
        assert records.find_sweep("abcd1234").id == "abcd1234"

    @pytest.mark.parametrize("name", ["ab", "zz", "", "%", "_", "a_cd1234", "Digits"])
    def test_unknown_and_ambiguous_names_list_the_candidates(self, records: Records, name: str) -> None:
        records.create_sweep(a_sweep("abcd1234"))
        records.create_sweep(a_sweep("abef5678", name="fashion"))
        with pytest.raises(NotFound) as told:
            records.find_sweep(name)
        assert "abcd1234 (digits)" in str(told.value)
        assert ("is ambiguous" in str(told.value)) is (name == "ab")
        assert len(str(told.value).splitlines()) <= 3

    def test_a_mistyped_name_gets_a_suggestion(self, records: Records) -> None:
        records.create_sweep(a_sweep("abcd1234"))
        records.create_sweep(a_sweep("abef5678", name="fashion"))
        with pytest.raises(NotFound, match="did you mean 'fashion'"):
            records.find_sweep("fashoin")
        with pytest.raises(NotFound) as told:
            records.find_sweep("weather")
        assert "did you mean" not in str(told.value)

    def test_an_empty_store_says_so(self, records: Records) -> None:
        with pytest.raises(NotFound, match="none yet"):
            records.find_sweep("digits")
        assert records.sweeps() == []

    def test_sweeps_by_state_newest_first(self, records: Records, clock: FakeClock) -> None:
        for sweep in ("aaaa1111", "bbbb1111", "cccc1111"):
            records.create_sweep(a_sweep(sweep))
            clock.pass_s(1)
        with records.deciding("bbbb1111") as decision:
            decision.set_state(SweepState.COMPLETED, "every trial has ended")
        assert [sweep.id for sweep in records.sweeps()] == ["cccc1111", "bbbb1111", "aaaa1111"]
        assert [sweep.id for sweep in records.sweeps([SweepState.RUNNING])] == ["cccc1111", "aaaa1111"]


class TestBest:
    @pytest.mark.parametrize(("goal", "order"), [("minimize", [3, 0, 2]), ("maximize", [4, 2, 0])])
    def test_by_the_goal_and_of_equals_the_lower_number(
        self, records: Records, goal: str, order: list[int]
    ) -> None:
        sweep = put_sweep(records, 7, a_sweep(goal=goal))
        values = {0: 0.5, 2: 0.5, 3: -math.inf, 4: math.inf}
        for number, value in values.items():
            finish(records, number, value)
        finish(records, 1, math.nan)
        records.fail(claim(records, trial=5).key, Failure(FailureClass.DIVERGED, "loss is NaN"))
        best = records.best(sweep, 10)
        assert {trial.number for trial in best} == set(values), "NaN and failures do not count"
        ranked = [trial.number for trial in best]
        assert ranked == ([3, 0, 2, 4] if goal == "minimize" else [4, 0, 2, 3])
        assert records.best(sweep)[0].number == order[0]

    def test_a_stopped_trial_counts(self, records: Records) -> None:
        sweep = put_sweep(records)
        assert records.best(sweep) == []
        records.finish(claim(records).key, result(state=TrialState.STOPPED))
        assert [trial.number for trial in records.best(sweep)] == [0]


class TestWhatWaits:
    def test_by_the_time_that_trials_took(self, records: Records, clock: FakeClock) -> None:
        planned = put_sweep(records, 4).max_trials
        assert records.seconds_waiting(SWEEP) == math.inf, "none has ended"
        for number, took_s in ((0, 2.0), (1, 4.0)):
            key = claim(records, trial=number).key
            clock.pass_s(took_s)
            records.finish(key, result())
        claim(records, trial=2)
        assert records.seconds_waiting(SWEEP) == pytest.approx(3.0 * (planned - 3))

    def test_nothing_waits_once_every_trial_is_in_hand(self, records: Records) -> None:
        records.create_sweep(replace(a_sweep(), max_trials=2))
        add_trials(records, SWEEP, [0, 1], {})
        finish(records, 0, 0.5)
        claim(records, trial=1)
        assert records.seconds_waiting(SWEEP) == 0.0


class TestTheBar:
    @pytest.mark.parametrize("goal", ["minimize", "maximize"])
    def test_it_is_the_last_of_the_best_whose_models_are_kept(self, records: Records, goal: str) -> None:
        put_sweep(records, 6, a_sweep(goal=goal, keep_top=2))
        sign = 1 if goal == "minimize" else -1
        bars = []
        for number, value in enumerate([5.0, 3.0, 4.0, 1.0, 9.0]):
            held = claim(records, trial=number)
            bars.append(held.bar)
            records.finish(held.key, result(value=sign * value))
        assert bars == [None, None, sign * 5.0, sign * 4.0, sign * 3.0]
        assert claim(records, trial=5).bar == sign * 3.0, "a worse one does not move it"

    def test_where_no_model_is_kept_nothing_reaches_it(self, records: Records) -> None:
        put_sweep(records, 1, a_sweep(keep_top=0))
        assert claim(records).bar == -math.inf


class TestOddValues:
    def test_metrics_that_are_no_finite_numbers(self, records: Records) -> None:
        put_sweep(records)
        key = claim(records).key
        odd = {
            "nan": math.nan,
            "up": math.inf,
            "down": -math.inf,
            "tiny": 5e-324,
            "big": 1.7e308,
            "third": 1 / 3,
        }
        records.record([Progress(key, (EpochRecord(1, odd, 0.1),))], LEASE_S)
        (kept,) = records.epochs(SWEEP)[0]
        assert math.isnan(kept.metrics["nan"])
        assert {**kept.metrics, "nan": 0} == {**odd, "nan": 0}, "the others are kept to the last bit"

    @pytest.mark.parametrize("text", ["ünïcode 🎉", "a\x00b", "half \udc80 pair", "x" * 100_000, ""])
    def test_whatever_a_job_prints(self, records: Records, text: str) -> None:
        put_sweep(records)
        key = claim(records).key
        records.record([Progress(key, logs=(text,))], LEASE_S)
        ((_, trial, attempt, kept),) = records.logs(SWEEP)
        assert (trial, attempt) == (0, 1)
        assert kept == text.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace("\udc80", "?")
        assert records.fail(key, Failure(FailureClass.USER, text)) is TrialState.FAILED
        failure = records.trial(TrialKey(SWEEP, 0)).failure
        assert failure is not None
        assert failure.message == excerpt(kept, MESSAGE_CHARS)

    def test_any_parameters(self, records: Records) -> None:
        records.create_sweep(a_sweep())
        params = {"a": [1, [2.5, None]], "b": {"c": {"d": []}}, "e": "", "f": None, "g": 10**15, "h": False}
        add_trials(records, SWEEP, [0], params)
        assert claim(records).params == params

    def test_log_lines_of_a_sweep_and_of_one_trial(self, records: Records) -> None:
        put_sweep(records, 2)
        keys = [claim(records, trial=number).key for number in (0, 1)]
        records.record([Progress(key, logs=(f"{key.trial}a", f"{key.trial}b")) for key in keys], LEASE_S)
        assert [line.text for line in records.logs(SWEEP)] == ["0a", "0b", "1a", "1b"]
        assert [line.text for line in records.logs(SWEEP, trial=0)] == ["0a", "0b"]


class TestLogTail:
    def test_gives_each_line_once(self, records: Records) -> None:
        put_sweep(records, 2)
        keys = [claim(records, trial=number).key for number in (0, 1)]
        tail, of_one = records.log_tail(SWEEP), records.log_tail(SWEEP, 1)
        assert tail.read() == []
        for text in ("a", "b"):
            records.record([Progress(key, logs=(f"{key.trial}{text}",)) for key in keys], LEASE_S)
            assert [line.text for line in tail.read()] == [f"0{text}", f"1{text}"]
            assert [line.text for line in of_one.read()] == [f"1{text}"]
        assert tail.read() == of_one.read() == []

    def test_skips_no_line_that_is_committed_late_in_postgresql(self, postgres_url: str) -> None:
        """A line that becomes visible after lines with higher ids is still returned, and none is returned
        twice.
        """
        records = Records(postgres_url)
        put_sweep(records, 3)
        keys = [claim(records, trial=number).key for number in range(3)]
        tail = records.log_tail(SWEEP)
        with records._db.writing() as slow:
            assert lock_held(slow, keys[0]) is not None
            write_progress(slow, [Progress(keys[0], logs=("slow",))], 0.0)
            for number in (1, 2):
                records.record([Progress(keys[number], logs=(f"quick {number}",))], LEASE_S)
                assert [line.text for line in tail.read()] == [f"quick {number}"]
                assert tail.read() == []
        assert [line.text for line in tail.read()] == ["slow"]
        assert tail.read() == []
        assert tail._returned == set(), "every transaction has ended, so nothing need be remembered"
        assert [line.text for line in records.logs(SWEEP)] == ["slow", "quick 1", "quick 2"]
        records.close()


def quickest(call: Callable[[], object]) -> float:
    """Return the duration of the fastest of three calls, in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


class TestTenThousandTrials:
    def test_are_quick_to_add_and_to_ask_about(self, records: Records) -> None:
        sweep = a_sweep()
        records.create_sweep(sweep)
        trials = [
            NewTrial(number, {"learning_rate": number / 1e4}, number, "drawn") for number in range(10_000)
        ]
        start = time.perf_counter()
        with records.deciding(SWEEP) as decision:
            decision.add_trials(trials)
        assert time.perf_counter() - start < 10
        for number in range(40):
            finish(records, number * 250, float(number))
        assert quickest(lambda: records.counts(SWEEP)) < 0.1
        assert quickest(lambda: records.best(sweep)) < 0.1
        assert quickest(lambda: records.find_sweep("digits")) < 0.1
        assert quickest(lambda: records.trial(TrialKey(SWEEP, 9_999))) < 0.1
        assert quickest(lambda: records.unhinted()) < 0.5
        assert quickest(lambda: records.expire_leases()) < 0.1
        assert quickest(lambda: records.trials(SWEEP)) < 2
        assert records.best(sweep)[0].number == 0
        assert records.counts(SWEEP) == {TrialState.COMPLETED: 40, TrialState.QUEUED: 9_960}


class TestFollowing:
    def test_reads_only_what_has_changed_and_tells_which_attempts_were_resumed(
        self, records: Records
    ) -> None:
        put_sweep(records, 3)
        every, newest = records.changed_trials(SWEEP, frozenset())
        assert [one.number for one in every] == [0, 1, 2]
        known = {(one.number, str(one.state), one.attempt, one.epochs) for one in every}
        assert records.changed_trials(SWEEP, known, newest) == ([], newest)
        first = claim(records, trial=1)
        records.record([progress(first.key, 1, 2)], LEASE_S)
        records.release(first.key, TrialState.QUEUED, "the worker ends")
        second = claim(records, trial=1)
        records.record([Progress(second.key, (EpochRecord(3, {"val_loss": 0.1}, 0.2),))], LEASE_S)
        for since in (None, newest):
            changed, later = records.changed_trials(SWEEP, known, since)
            assert [(one.number, one.attempt, one.epochs) for one in changed] == [(1, 2, 3)]
            assert later > newest
        assert [(one.trial, one.number) for one in records.attempts_at(SWEEP, {1, 2})] == [(1, 1), (1, 2)]
        assert records.attempts_at(SWEEP, set()) == []
        assert dict(records.resumed_after(SWEEP, {1})) == {(1, 1): 0, (1, 2): 2}

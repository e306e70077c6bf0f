"""Many threads and processes on one store: exactly one wins, and nobody waits forever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from racers import go, in_threads, racers
from recorded import LEASE_S, a_sweep, claim, progress, put_sweep, result, with_retries

from kerasweep.jobs.errors import StaleAttempt
from kerasweep.jobs.store.models import NewTrial, Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql.database import Database
from kerasweep.jobs.trial import Answer, TrialKey, TrialState

SWEEP = "abcd1234"
TRIAL = TrialKey(SWEEP, 0)


class TestOneWins:
    def test_of_twenty_threads_that_claim(self, live_records: Records) -> None:
        put_sweep(live_records)
        claims = in_threads(lambda number: live_records.claim(TRIAL, f"w{number}", LEASE_S), 20)
        winners = [claimed for claimed in claims if claimed]
        assert len(winners) == 1
        assert [one.worker for one in live_records.attempts(SWEEP)] == [live_records.trial(TRIAL).worker]

    def test_of_twenty_claimers_in_four_processes(self, store_url: str, live_records: Records) -> None:
        put_sweep(live_records)
        with racers("claim", store_url, [[f"w{number}"] for number in range(4)]) as processes:
            attempts = [attempt for found in go(processes) for attempt in found]
        assert len(attempts) == 20
        assert [attempt for attempt in attempts if attempt] == [1]
        assert len(live_records.attempts(SWEEP)) == 1

    def test_of_threads_that_finish_one_attempt(self, live_records: Records) -> None:
        put_sweep(live_records)
        key = claim(live_records).key

        def finish(number: int) -> bool:
            try:
                live_records.finish(key, result(number / 10, digest=str(number % 4) * 64))
                return True
            except StaleAttempt:
                return False

        done = in_threads(finish, 8)
        kept = live_records.trial(TRIAL).digest
        assert done == [str(number % 4) * 64 == kept for number in range(8)], "equal results are one result"
        assert [one.event for one in live_records.journal(SWEEP)].count("completed") == 1

    def test_never_both_a_renewal_and_an_expiry(self, live_records: Records) -> None:
        """A lease that is renewed just as it is taken back is either renewed or taken back."""
        put_sweep(live_records, trials=20)
        for number in range(20):
            key = live_records.claim(TrialKey(SWEEP, number), "w1", 0.001)
            assert key is not None
            both = in_threads(
                lambda who, key=key.key: (
                    live_records.expire_leases()  # type: ignore[misc]
                    if who
                    else live_records.record([progress(key, 1)], LEASE_S)[key]
                ),
                2,
            )
            renewed = both[0] is Answer.GO_ON
            assert (both[1] == []) is renewed, both
            trial = live_records.trial(key.key.of_trial)
            assert trial.state is (TrialState.RUNNING if renewed else TrialState.QUEUED)
            assert (trial.lease_until is not None) is renewed
            assert (number in live_records.epochs(SWEEP)) is renewed
            if renewed:
                live_records.release(key.key, TrialState.PAUSED, "out of the way")


class TestTheStoresOwnClock:
    def test_leases_end_by_it(self, live_records: Records, until) -> None:  # type: ignore[no-untyped-def]
        put_sweep(live_records, trials=2)
        lost = live_records.claim(TRIAL, "w1", 0.2)
        assert lost is not None
        kept = claim(live_records, trial=1).key
        assert live_records.expire_leases() == []
        taken: list[TrialKey] = []
        until(lambda: taken.extend(live_records.expire_leases()) or taken, 10, "the lease's end")
        assert taken == [TRIAL]
        assert live_records.record([Progress(lost.key)], LEASE_S) == {lost.key: Answer.STALE}
        assert live_records.record([Progress(kept)], LEASE_S) == {kept: Answer.GO_ON}


class TestDeciders:
    def test_in_two_processes_never_take_the_same_number(self, store_url: str, live_records: Records) -> None:
        put_sweep(live_records, trials=0)
        with racers("decide", store_url, [["a", 60], ["b", 60], ["c", 60]]) as processes:
            added = go(processes)
        assert sorted(number for found in added for number in found) == list(range(60))
        assert [trial.number for trial in live_records.trials(SWEEP)] == list(range(60))
        told = [entry.trial for entry in live_records.journal(SWEEP) if entry.event == "suggested"]
        assert told == list(range(60))

    def test_of_two_sweeps_do_not_wait_for_each_other_in_postgresql(self, postgres_url: str) -> None:
        records = Records(postgres_url)
        for sweep in ("aaaa1111", "bbbb1111"):
            records.create_sweep(a_sweep(sweep))
        with records.deciding("aaaa1111") as one, records.deciding("bbbb1111") as other:
            one.add_trials([NewTrial(0, {}, 0, "why")])
            other.add_trials([NewTrial(0, {}, 0, "why")])
        assert len(records.trials("aaaa1111")) == len(records.trials("bbbb1111")) == 1
        records.close()

    def test_a_long_decision_holds_up_no_worker_in_postgresql(self, postgres_url: str) -> None:
        records = Records(postgres_url)
        put_sweep(records, trials=3)
        key = claim(records).key
        with records.deciding(SWEEP) as decision:
            decision.add_trials([NewTrial(3, {}, 0, "why")])
            assert records.record([progress(key, 1)], LEASE_S) == {key: Answer.GO_ON}
            records.finish(key, result())
            claim(records, trial=1)
        assert records.counts(SWEEP) == {"completed": 1, "running": 1, "queued": 2}
        records.close()

    def test_and_workers_do_not_lock_each_other_out(self, live_records: Records) -> None:
        """Batches of renewals, in any order, against decisions over all trials: no deadlock."""
        put_sweep(live_records, trials=24)
        hints = live_records.unhinted()
        keys = [claim(live_records, trial=number).key for number in range(24)]

        def work(who: int) -> None:
            for turn in range(15):
                if who == 0:
                    with live_records.deciding(SWEEP) as decision:
                        decision.ask(Answer.PAUSE if turn % 2 else None)
                elif who == 1:
                    live_records.mark_hinted(reversed(hints))
                    live_records.expire_leases()
                else:
                    mine = keys[:: who - 1] if turn % 2 else keys[::-1]
                    live_records.record([Progress(key, logs=("x",)) for key in mine], LEASE_S)

        in_threads(work, 6)
        assert live_records.counts(SWEEP) == {TrialState.RUNNING: 24}


class TestManyWriters:
    @pytest.mark.slow
    def test_eight_processes_for_four_seconds(self, store_url: str, live_records: Records) -> None:
        # A trial is released each round: far more often than trials of a sweep are interrupted.
        put_sweep(live_records, trials=16, sweep=with_retries(max_interruptions=1_000_000))
        with racers("write", store_url, [[2 * number, 2, 4] for number in range(8)]) as processes:
            found = go(processes)
        rounds, longest = sum(one["rounds"] for one in found), max(one["longest_s"] for one in found)
        print(
            f"{rounds / 4:.0f} rounds of claim, record and release a second; at most {longest:.2f} s a call"
        )
        assert min(one["rounds"] for one in found) > 0
        assert longest < 15
        assert len(live_records.attempts(SWEEP)) == rounds
        assert len(live_records.logs(SWEEP)) == rounds

    def test_threads_of_one_process_take_turns(self, live_records: Records) -> None:
        put_sweep(live_records, trials=16)

        def write(number: int) -> None:
            for _ in range(10):
                key = claim(live_records, trial=number).key
                live_records.record([Progress(key)], LEASE_S)
                live_records.release(key, TrialState.QUEUED, "again")

        in_threads(write, 16)
        assert len(live_records.attempts(SWEEP)) == 160

    def test_a_store_that_four_open_at_once_is_made_once(self, store_url: str) -> None:
        with racers("open", store_url, [[]] * 4) as processes:
            assert go(processes) == ["0"] * 4
        records = Records(store_url)
        with records._db.reading() as conn:
            assert conn.exec_driver_sql("select count(*) from schema_version").scalar() == 1
        records.close()


class TestSqliteReaders:
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Database(f"sqlite:///{tmp_path / 'store.db'}")
        yield database
        database.close()

    def test_do_not_wait_for_a_writer(self, database: Database) -> None:
        with database.writing(), database.reading() as conn:
            assert conn.exec_driver_sql("select count(*) from sweeps").scalar() == 0

    def test_see_one_state(self, tmp_path: Path) -> None:
        records = Records(f"sqlite:///{tmp_path / 'store.db'}")
        put_sweep(records)
        with records._db.reading() as conn:
            before = conn.exec_driver_sql("select attempt from trials").scalar()
            thread = threading.Thread(target=claim, args=(records,))
            thread.start()
            thread.join(20)
            assert conn.exec_driver_sql("select attempt from trials").scalar() == before == 0
        assert records.trial(TRIAL).attempt == 1
        records.close()

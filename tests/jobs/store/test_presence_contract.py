"""Presence of processes, in every store: registered, signed off, silent, dead."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from recorded import LEASE_S, FakeClock, claim, put_sweep

from kerasweep.jobs.kernel import ProcessKind, process_mark
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import Answer

SWEEP = "abcd1234"


class TestWorkers:
    def test_are_seen_and_gone(self, records: Records, clock: FakeClock) -> None:
        records.seen("w1", {"slots": 4})
        clock.pass_s(10)
        records.seen("w2", {"slots": 1})
        records.seen("w1", {"slots": 2})
        clock.pass_s(25)
        assert [(one.id, one.facts, one.age_s) for one in records.alive()] == [
            ("w1", {"slots": 2}, 25),
            ("w2", {"slots": 1}, 25),
        ]
        assert records.alive(ProcessKind.SCHEDULER) == []
        records.gone("w1")
        assert [one.id for one in records.alive()] == ["w2"]
        clock.pass_s(10)
        assert records.alive() == []


class TestSchedulers:
    def test_are_seen_and_gone(self, records: Records, clock: FakeClock) -> None:
        records.seen("s1", {"host": "here"}, ProcessKind.SCHEDULER)
        clock.pass_s(20)
        records.seen("s2", {}, ProcessKind.SCHEDULER)
        assert [(one.id, one.age_s) for one in records.alive(ProcessKind.SCHEDULER)] == [
            ("s1", 20),
            ("s2", 0),
        ]
        assert records.alive() == []
        records.gone("s2", ProcessKind.SCHEDULER)
        clock.pass_s(20)
        assert records.alive(ProcessKind.SCHEDULER) == []


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stays until it is killed."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


class TestTheDead:
    def test_lose_their_trials_at_once(
        self, records: Records, clock: FakeClock, process: subprocess.Popen[bytes]
    ) -> None:
        put_sweep(records, trials=2)
        records.seen("dead", {"process": process_mark(process.pid)})
        records.seen("alive", {"process": process_mark()})
        records.seen("dead too", {"process": process_mark(process.pid)}, ProcessKind.SCHEDULER)
        lost, kept = claim(records, trial=0, worker="dead").key, claim(records, trial=1, worker="alive").key
        clock.pass_s(1)
        assert records.bury_the_dead() == []
        process.kill()
        process.wait()
        assert records.bury_the_dead() == ["dead", "dead too"]
        assert records.bury_the_dead() == []
        assert [one.id for one in records.alive()] == ["alive"]
        assert records.alive(ProcessKind.SCHEDULER) == []
        assert records.expire_leases() == [lost.of_trial]
        (attempt,) = records.attempts(SWEEP, 0)
        assert (attempt.outcome, attempt.message) == ("failed: lost", "dead has died")
        answers = records.record([Progress(lost), Progress(kept)], LEASE_S)
        assert answers == {lost: Answer.STALE, kept: Answer.GO_ON}

    def test_a_frozen_process_is_not_dead(
        self, records: Records, clock: FakeClock, process: subprocess.Popen[bytes]
    ) -> None:
        records.seen("w1", {"process": process_mark(process.pid)})
        process.send_signal(signal.SIGSTOP)
        assert records.bury_the_dead() == []

    @pytest.mark.parametrize("facts", [{}, {"process": None}, {"process": "elsewhere/4026531836/1/1"}])
    def test_who_is_elsewhere_may_be_alive(
        self, records: Records, clock: FakeClock, facts: dict[str, object]
    ) -> None:
        records.seen("w1", facts)
        assert records.bury_the_dead() == []
        assert [one.id for one in records.alive()] == ["w1"]

"""The ledger: order survives an outage, one bad page does not spoil others, no lease is exceeded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import EpochRecord, Progress
from kerasweep.jobs.trial import Answer, AttemptKey
from kerasweep.workers.ledger import Ledger

SETTINGS = Settings(flush_s=0.01, renew_s=0.05, self_stop_s=0.3)
ONE, TWO = AttemptKey("abcd1234", 1, 1), AttemptKey("abcd1234", 2, 1)


class FakeRecords:
    """Keeps what it is given; refuses when told to."""

    def __init__(self) -> None:
        self.kept: list[Progress] = []
        self.answers: dict[AttemptKey, Answer] = {}
        self.refuse: Callable[[Sequence[Progress]], Exception | None] = lambda batch: None
        self.left = False

    def record(self, batch: Sequence[Progress], lease_s: float) -> dict[AttemptKey, Answer]:
        error = self.refuse(batch)
        if error:
            raise error
        self.kept += batch
        return {progress.key: self.answers.get(progress.key, Answer.GO_ON) for progress in batch}

    def seen(self, worker: str, facts: object) -> None:
        """Register."""

    def gone(self, worker: str) -> None:
        self.left = True

    def epochs_of(self, key: AttemptKey) -> list[int]:
        return [epoch.epoch for progress in self.kept if progress.key == key for epoch in progress.epochs]


class Heard:
    """What an attempt receives from its ledger."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.unrenewed = 0

    def miss(self) -> None:
        self.unrenewed += 1


@pytest.fixture
def records() -> FakeRecords:
    return FakeRecords()


@pytest.fixture
def ledger(records: FakeRecords) -> Any:
    made = Ledger(records, SETTINGS, "w1", dict)  # type: ignore[arg-type]
    made.start()
    yield made
    made.stop()


def opened(ledger: Ledger, key: AttemptKey) -> Heard:
    heard = Heard()
    ledger.open(key, heard.answers.append, heard.miss)
    return heard


def epoch(number: int) -> EpochRecord:
    return EpochRecord(number, {"val_loss": 0.5}, 0.1)


def away(batch: Sequence[Progress]) -> OutOfReach:
    return OutOfReach("The store", "sqlite:///x", "wait")


def test_what_an_outage_held_up_is_written_in_its_order(
    ledger: Ledger, records: FakeRecords, until: Any
) -> None:
    opened(ledger, ONE)
    tries: list[int] = []

    def refuse(batch: Sequence[Progress]) -> OutOfReach | None:
        tries.append(len(batch))
        return away(batch) if len(tries) < 6 else None

    records.refuse = refuse
    for number in range(1, 8):
        ledger.write(ONE, epoch=epoch(number), log_line=f"line {number}")
        until(lambda number=number: len(tries) >= number, 5)
    until(lambda: len(records.epochs_of(ONE)) == 7, 5)
    assert records.epochs_of(ONE) == [*range(1, 8)]
    logs = [line for progress in records.kept for line in progress.logs]
    assert logs == [f"line {number}" for number in range(1, 8)]


def test_what_was_not_sent_comes_back_when_the_page_is_closed(ledger: Ledger, records: FakeRecords) -> None:
    opened(ledger, ONE)
    records.refuse = away
    ref = ArtifactRef("checkpoint", "sweeps/a/trials/1/1/checkpoint-1.npz", "0" * 64, 1, 1)
    ledger.write(ONE, epoch=epoch(1), checkpoint=ref)
    left = ledger.close(ONE)
    assert (left.epochs, left.checkpoints) == ((epoch(1),), (ref,))


def test_an_attempt_that_cannot_be_renewed_is_told_before_its_lease_ends(
    ledger: Ledger, records: FakeRecords, until: Any
) -> None:
    heard = opened(ledger, ONE)
    until(lambda: len(records.kept) > 3, 5)
    assert heard.unrenewed == 0
    records.refuse = away
    until(lambda: heard.unrenewed > 0, 5)
    assert heard.answers == []


def test_a_store_that_hangs_keeps_nobody_beyond_its_lease(
    ledger: Ledger, records: FakeRecords, until: Any
) -> None:
    heard, answers = opened(ledger, ONE), threading.Event()

    def hang(batch: Sequence[Progress]) -> None:
        answers.wait(10)

    records.refuse = hang
    try:
        until(lambda: heard.unrenewed > 0, 5)
    finally:
        answers.set()


def test_a_page_that_cannot_be_written_spoils_no_other(
    ledger: Ledger, records: FakeRecords, until: Any
) -> None:
    bad, good = opened(ledger, ONE), opened(ledger, TWO)
    records.refuse = lambda batch: (
        ValueError("no such value") if any(progress.key == ONE for progress in batch) else None
    )
    ledger.write(ONE, epoch=epoch(1))
    ledger.write(TWO, epoch=epoch(1))
    until(lambda: records.epochs_of(TWO) == [1] and bad.unrenewed > 0, 5)
    assert good.unrenewed == 0


@pytest.mark.parametrize("answer", [Answer.PAUSE, Answer.CANCEL, Answer.STOP, Answer.STALE])
def test_requests_reach_the_attempt(ledger: Ledger, records: FakeRecords, until: Any, answer: Answer) -> None:
    heard = opened(ledger, ONE)
    records.answers[ONE] = answer
    until(lambda: answer in heard.answers, 5)


def test_a_stale_attempt_keeps_no_lease(ledger: Ledger, records: FakeRecords, until: Any) -> None:
    heard = opened(ledger, ONE)
    records.answers[ONE] = Answer.STALE
    until(lambda: heard.unrenewed > 0, 5)


def test_a_ledger_that_never_began_can_be_stopped(records: FakeRecords) -> None:
    Ledger(records, replace(SETTINGS), "w1", dict).stop()  # type: ignore[arg-type]
    assert records.left

"""Hints in a real Redis: which ones are queued, and how one is put in front of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.queue.hints import Hint
from kerasweep.jobs.trial import TrialKey

QUEUE = "train.cpu"


@pytest.fixture
def queue(redis_server: Any) -> Iterator[HintQueue]:
    made = HintQueue(redis_server.url)
    yield made
    made.close()


def hints(sweep: str, *numbers: int, gpus: int = 0) -> list[Hint]:
    return [Hint(TrialKey(sweep, number), 1, "mlp", gpus, {"units": 100}) for number in numbers]


def taken(queue: HintQueue, name: str = QUEUE) -> list[TrialKey]:
    """Take every message as Celery does, from the right end; return the trials."""
    with queue._app.connection_for_read() as connection:
        box = connection.SimpleQueue(name)
        found = [box.get_nowait() for _ in range(queue.length(name))]
        return [TrialKey(one.payload[1]["sweep"], one.payload[1]["trial"]) for one in found]


def test_queued_hints_are_found_among_other_entries(queue: HintQueue) -> None:
    queue.send(hints("abcd1234", *range(1100)))
    queue.send(hints("abcd1234", 7, gpus=1))
    for entry in (b"\xff{", b"[" * 10_000, b'{"headers": {"id": "../../etc"}}', b'{"id": "abcd1234.9999"}'):
        queue._redis.lpush(QUEUE, entry)
    assert queue.waiting(QUEUE) == {TrialKey("abcd1234", number) for number in range(1100)}
    assert queue.waiting("train.1gpu") == {TrialKey("abcd1234", 7)}
    assert queue.waiting("train.8gpu") == set()


def test_late_hints_are_put_first_in_their_own_order(queue: HintQueue) -> None:
    queue.send(hints("efab5678", 0, 1))
    queue.send([*hints("abcd1234", 0, 1), *hints("abcd1234", 2, gpus=1)], ahead=True)
    assert taken(queue) == [
        TrialKey(sweep, number) for sweep in ("abcd1234", "efab5678") for number in (0, 1)
    ]
    assert taken(queue, "train.1gpu") == [TrialKey("abcd1234", 2)]


def test_trials_that_waited_at_a_rung_go_ahead_of_new_ones(queue: HintQueue) -> None:
    queue.send(hints("efab5678", 0, 1))
    resumed = [replace(one, waited=True) for one in hints("abcd1234", 1, 3)]
    queue.send([resumed[0], *hints("abcd1234", 2), resumed[1]])
    assert [key.trial for key in taken(queue)] == [1, 3, 0, 1, 2]

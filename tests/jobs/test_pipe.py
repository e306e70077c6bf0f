"""Messages of the pipe round-trip unchanged, and invalid ones are reported by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasweep.jobs.errors import PipeDefect
from kerasweep.jobs.pipe import (
    EVENTS,
    LONGEST_LINE_BYTES,
    LONGEST_TEXT_CHARS,
    ORDERS,
    DoneEvent,
    EpochEvent,
    Event,
    FailedEvent,
    LogEvent,
    Order,
    PipeReader,
    PipeWriter,
    ReleasedEvent,
)
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.trial import FailureClass

EPOCH = EpochEvent("s1/0/1", 3, {"loss": 0.1}, 0.5)
MODEL = ArtifactRef("model", "key", "sha", 7, 3)


def lines(*events: Event) -> bytes:
    writer = PipeWriter()
    return b"".join(writer.line(event) for event in events)


def read(data: bytes) -> list[Any]:
    return list(PipeReader(EVENTS).feed(data))


@given(st.dictionaries(st.text(max_size=8), st.floats(allow_nan=True)), st.floats(allow_nan=True))
def test_metrics_come_back_bit_for_bit(metrics: dict[str, float], value: float) -> None:
    facts = {"notes": ["a"], "versions": {"python": "3"}}
    sent = DoneEvent("s1/0/1", "aa", value, 1, 3, metrics, MODEL, False, facts, 5)
    [back] = read(lines(sent))
    assert repr(back) == repr(sent)


@given(st.lists(st.text(), min_size=1, max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_lines_may_be_cut_anywhere(texts: list[str], cuts: list[int]) -> None:
    data = lines(*(LogEvent("s1/0/1", text) for text in texts))
    reader, found = PipeReader(EVENTS), []
    for number in range(len(data)):
        cut = cuts[number % len(cuts)]
        piece, data = data[:cut], data[cut:]
        found += reader.feed(piece)
    assert [event.text for event in found] == texts


@pytest.mark.parametrize(
    ("line", "told", "run"),
    [
        (
            b'0 epoch {"run":"s1/0/1","epoch":"3","metrics":{},"seconds":0.1}',
            "epoch is invalid: epoch",
            "s1/0/1",
        ),
        (b'0 epoch {"run":"s1/0/1","epoch":3,"metrics":{}}', "seconds: Field required", "s1/0/1"),
        (b'0 epoch {"run":"s1/0/1","epoch":3,"metrics":{},"seconds":0.1,"more":1}', "more", "s1/0/1"),
        (b'0 failed {"run":"s1/0/1","failure_class":"odd"}', "failed is invalid", "s1/0/1"),
        (b'0 dance {"run":"s1/0/1"}', "dance is not a kind of message", "s1/0/1"),
        (b'3 log {"run":"s1/0/1","text":"a"}', "message 0 to 3 was lost", None),
    ],
)
def test_invalid_messages_are_reported_by_name(line: bytes, told: str, run: str | None) -> None:
    [defect] = read(line + b"\n")
    assert isinstance(defect, PipeDefect)
    assert told in str(defect)
    assert defect.run == run


def test_a_message_after_a_jobs_own_output_is_read() -> None:
    assert read(b"printed by a job" + lines(EPOCH)) == [EPOCH]


def test_an_endless_line_is_not_kept() -> None:
    reader = PipeReader(EVENTS)
    found = [one for _ in range(LONGEST_LINE_BYTES // (1 << 20) + 1) for one in reader.feed(b"x" * (1 << 20))]
    assert "is not a message" in str(found[0])


def test_texts_are_bounded_and_can_be_encoded() -> None:
    [back] = read(lines(FailedEvent("s1/0/1", FailureClass.USER, "\ud800", "x" * 3 * LONGEST_TEXT_CHARS, 1)))
    assert back.message == "?"
    assert len(back.traceback) < LONGEST_TEXT_CHARS + 100
    assert "characters left out" in back.traceback


def test_a_message_with_wrong_fields_is_not_sent() -> None:
    with pytest.raises(PipeDefect, match="released cannot be sent"):
        PipeWriter().line(ReleasedEvent("s1/0/1", 3, None))  # type: ignore[arg-type]
    with pytest.raises(PipeDefect, match="epoch"):
        PipeWriter().line(EpochEvent("s1/0/1", 1.5, {}, math.nan))  # type: ignore[arg-type]


def test_every_kind_has_a_name_of_its_own() -> None:
    assert len(ORDERS) == len(Order.__args__)
    assert len(EVENTS) == len(Event.__args__)
    assert not set(ORDERS) & set(EVENTS)


def test_lines_that_a_job_wrote_into_the_pipe_are_dropped() -> None:
    messages = read(b'Segmentation fault\n\n0 log {"run":"s1/0/1","text":"a"}\n')
    assert messages == [LogEvent("s1/0/1", "a")]

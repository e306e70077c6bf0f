"""A job's output is limited in size, with a note where it was cut, in time linear in its length."""

from __future__ import annotations

import pytest

pytest.importorskip("keras")

from kerasweep.workers.trainer.job.prints import RunLog


def printed(*texts: str) -> str:
    sent: list[str] = []
    log = RunLog(sent.append)
    for text in texts:
        log.write(text)
    log.flush(partial=True)
    return "\n".join(sent)


def test_one_write_of_100_mb_keeps_its_beginning_and_its_end() -> None:
    kept = printed("first\n" + "line\n" * (20 << 20) + "last")
    assert len(kept) < 1 << 20
    assert kept.startswith("first\n")
    assert kept.endswith("last")
    assert "more lines are left out" in kept


def test_a_million_lines_are_bounded() -> None:
    kept = printed(*["x" * 500 + "\n"] * 1_000_000)
    assert len(kept) < 5 << 20
    assert "more lines are left out" in kept


def test_a_long_line_says_where_it_was_cut() -> None:
    assert "[3000 characters left out]" in printed("y" * 5_000 + "\n")

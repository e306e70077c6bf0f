"""A trainer's raw output is forwarded within limits, and never blocks its end."""

from __future__ import annotations

import os
from pathlib import Path

from kerasweep.workers.echo import Echo


def echoed(tmp_path: Path, size: int) -> bytes:
    with (tmp_path / "log").open("wb") as target:
        echo = Echo("cpu 0", target.fileno())
        held = os.dup(echo.descriptor)  # as a process left behind would
        echo.start()
        for _ in range(size >> 16):
            os.write(held, b"x" * (1 << 16))
        os.write(held, b"end")
        echo.end()
        os.close(held)
    return (tmp_path / "log").read_bytes()


def test_little_is_passed_on_as_it_is(tmp_path: Path) -> None:
    assert echoed(tmp_path, 1 << 17) == b"x" * (1 << 17) + b"end"


def test_much_is_cut_with_a_word(tmp_path: Path) -> None:
    log = echoed(tmp_path, 30 << 20)
    assert len(log) < 1 << 20
    assert b"bytes of trainer cpu 0 left out" in log

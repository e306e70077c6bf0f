"""A process that is alive but takes nothing reconnects, and then restarts."""

from __future__ import annotations

import pytest

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.queue.channel import TolerantChannel
from kerasweep.jobs.queue.watchdog import Watchdog


class World:
    """A queue, a process and a clock."""

    def __init__(self) -> None:
        self.now, self.waiting, self.room, self.away = 0.0, 1, True, False
        self.done: list[str] = []
        self.dog = Watchdog(
            self._wait,
            lambda: self.room,
            lambda: self.done.append("reconnect"),
            lambda: self.done.append("end"),
            10,
            lambda: self.now,
        )

    def _wait(self) -> int:
        if self.away:
            raise OutOfReach("Redis", "redis://x", "")
        return self.waiting

    def pass_s(self, seconds: int) -> list[str]:
        """Advance time, calling `look` every second; return everything that was done."""
        for _ in range(seconds):
            self.now += 1
            self.dog.look()
        return self.done


@pytest.fixture
def world() -> World:
    return World()


def test_it_reconnects_first_and_then_ends(world: World) -> None:
    assert world.pass_s(11) == []
    assert world.pass_s(1) == ["reconnect"]
    assert world.pass_s(9) == ["reconnect"]
    assert world.pass_s(1) == ["reconnect", "end"]


@pytest.mark.parametrize(
    ("name", "value"), [("waiting", 0), ("room", False), ("away", True)], ids=["empty", "full", "no Redis"]
)
def test_it_does_nothing_while_nothing_is_queued(world: World, name: str, value: object) -> None:
    world.pass_s(8)
    setattr(world, name, value)
    assert world.pass_s(40) == []
    assert world.dog.stalled_s == 0


def test_a_process_that_takes_something_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for taken in range(10):
        monkeypatch.setattr(TolerantChannel, "taken", TolerantChannel.taken + 1 + taken)
        assert world.pass_s(8) == []

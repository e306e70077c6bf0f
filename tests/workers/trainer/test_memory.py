"""How many trials are admitted, by memory, and after memory ran out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kerasweep.workers.trainer.engine import Interrupted
from kerasweep.workers.trainer.pack.memory import MemoryGate
from kerasweep.workers.trainer.state.stop_flag import StopFlag

pytestmark = pytest.mark.tf

IDLE, RUN, LIMIT = 100, 50, 260


class Run:
    """What `MemoryGate` needs of a run."""

    def __init__(self) -> None:
        self.stop = StopFlag()
        self.pulse = self
        self.beats = 0

    def beat(self, steps: int) -> None:
        self.beats += 1


class Memory:
    """Memory that runs use while they are inside."""

    def __init__(self) -> None:
        self.inside = 0

    def used(self) -> int:
        return IDLE + RUN * self.inside


class Visit(threading.Thread):
    """A run that waits for admission in its own thread."""

    def __init__(self, gate: MemoryGate, memory: Memory) -> None:
        super().__init__(daemon=True)
        self.run_: Any = Run()
        self.entered, self.leave = threading.Event(), threading.Event()
        self.interrupted = False
        self._gate, self._memory = gate, memory
        self.start()

    def run(self) -> None:
        try:
            with self._gate.enter(self.run_, 10):
                self._memory.inside += 1
                self.entered.set()
                self.leave.wait(30)
                self._memory.inside -= 1
        except Interrupted:
            self.interrupted = True


@pytest.fixture
def visits() -> Iterator[Any]:
    memory = Memory()
    gate = MemoryGate(LIMIT, memory.used)
    found: list[Visit] = []

    def visit() -> Visit:
        found.append(Visit(gate, memory))
        return found[-1]

    with ExitStack() as stack:
        stack.callback(lambda: [one.join(10) for one in found])
        stack.callback(lambda: [one.leave.set() for one in found])
        yield visit, gate


def test_runs_enter_while_memory_lasts(visits: Any) -> None:
    visit, _ = visits
    inside = [visit() for _ in range(3)]
    assert all(one.entered.wait(10) for one in inside)
    late = visit()
    assert not late.entered.wait(0.5)
    assert late.run_.beats > 0
    inside[0].leave.set()
    assert late.entered.wait(10)


def test_one_run_enters_whatever_it_takes() -> None:
    gate = MemoryGate(0, lambda: IDLE)
    with gate.enter(Run(), 10**12):
        pass


def test_memory_that_ran_out_halves_the_pack(visits: Any) -> None:
    visit, gate = visits
    inside = [visit(), visit()]
    assert all(one.entered.wait(10) for one in inside)
    assert gate.halve() == 1
    inside[0].leave.set()
    inside[0].join(10)
    late = visit()
    assert not late.entered.wait(0.5)
    inside[1].leave.set()
    assert late.entered.wait(10)


def test_a_run_that_waits_can_be_stopped(visits: Any) -> None:
    visit, gate = visits
    inside = visit()
    assert inside.entered.wait(10)
    gate.halve()
    late = visit()
    late.run_.stop.ask("pause")
    late.join(10)
    assert late.interrupted

"""How many trainers, and how many trials in each: tried while a sweep trains, kept where faster.

Speed is counted in steps a second of the whole worker while all of its seats are taken. On CPUs nothing is
tried while the cores are busy: then there is nothing to win. What is tried is twice the trainers, since
Python runs one thread at a time in each, and then twice the slots. No trial's bits depend on either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

log = logging.getLogger(__name__)

#: For so long speed is measured, and so long after a change of the scale it settles.
_WINDOW_S = 5.0
_SETTLE_S = 2.0
#: Of the samples in a window, so many must find all seats taken: between two trials one is free for a moment.
_FULL = 0.7
#: A trainer that was not heard to make a step for so long stands still.
_STANDS_S = 1.5
#: A scale is kept if it is so many times as fast.
_WORTH = 1.1
#: Cores that are so busy have nothing left to give.
_BUSY = 0.8
#: A scale that could not be measured for so long is given up.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Scale:
    """How many trainers a worker has, and how many slots each of them."""

    trainers: int
    slots: int

    def __str__(self) -> str:
        return f"{self.trainers} × {self.slots}"


@dataclass(frozen=True)
class Sample:
    """What the trainers had done at a moment.

    Args:
        at_s: the moment, in seconds.
        steps: made by each trainer since it started.
        cpu_s: processor time that the trainers took since they started, in seconds.
        full: whether all seats are taken.
        sweeps: which sweeps are trained.
    """

    at_s: float
    steps: tuple[int, ...]
    cpu_s: float
    full: bool
    sweeps: frozenset[str]


@dataclass(frozen=True)
class _Speed:
    """What a window showed: steps a second, and how many cores were busy."""

    steps: float
    cores: float


class Autoscaler:
    """Finds the fastest scale of a worker, sample by sample.

    Args:
        scale: the one it starts with.
        most: the largest one that may be tried.
        cores: how many the trainers share; 0 where they train on GPUs, and cores tell nothing.
        has_room: whether there is memory for as much again.
    """

    def __init__(self, scale: Scale, most: Scale, cores: int, has_room: Callable[[], bool]) -> None:
        self.scale = scale
        self._most = most
        self._cores = cores
        self._has_room = has_room
        self._sweeps: frozenset[str] = frozenset()
        self._window: list[Sample] = []
        self._last: Sample | None = None
        self._moved_at_s: list[float] = []
        self._kept: tuple[Scale, _Speed] | None = None
        self._refused: set[Scale] = set()
        self._changed_at_s = 0.0

    def observe(self, sample: Sample) -> Scale | None:
        """Hear of a moment, two in a second or so; return the scale to change to, if there is one."""
        if sample.sweeps and sample.sweeps != self._sweeps:
            return self._begin(sample)
        if sample.at_s - self._changed_at_s < _SETTLE_S:
            return None
        speed = self._speed(sample)
        if speed is not None:
            return self._judge(speed, sample.at_s)
        if self._trying and sample.at_s - self._changed_at_s > _PATIENCE_S:
            return self._go_back(sample.at_s, "it was never busy")
        return None

    @property
    def _trying(self) -> bool:
        return self._kept is not None and self._kept[0] != self.scale

    def _begin(self, sample: Sample) -> Scale | None:
        """Begin anew with other sweeps; what was being tried is not known to be better."""
        going_back = self._go_back(sample.at_s, "its sweep ended") if self._trying else None
        self._sweeps, self._kept, self._window = sample.sweeps, None, []
        self._refused.clear()
        self._changed_at_s = sample.at_s
        return going_back

    def _speed(self, sample: Sample) -> _Speed | None:
        """Return the speed over a window that is over now, and was busy; None where there is none."""
        if not self._all_move(sample):
            self._window = []
            return None
        self._window.append(sample)
        window = self._window
        seconds = sample.at_s - window[0].at_s
        if seconds < _WINDOW_S:
            return None
        self._window = []
        if sum(one.full for one in window) < _FULL * len(window):
            return None
        made = sum(sample.steps) - sum(window[0].steps)
        return _Speed(made / seconds, (sample.cpu_s - window[0].cpu_s) / seconds)

    def _all_move(self, sample: Sample) -> bool:
        """Whether every trainer makes steps: one that starts, loads or compiles makes none."""
        before, self._last = self._last, sample
        if before is None or len(before.steps) != len(sample.steps):
            self._moved_at_s = [sample.at_s] * len(sample.steps)
            return False
        for number, (old, new) in enumerate(zip(before.steps, sample.steps, strict=True)):
            if new < old:  # it ended, and another one takes its place
                return False
            if new > old:
                self._moved_at_s[number] = sample.at_s
        return min(sample.steps) > 0 and sample.at_s - min(self._moved_at_s) <= _STANDS_S

    def _judge(self, speed: _Speed, at_s: float) -> Scale | None:
        if self._kept is not None and self._trying:
            kept, before = self._kept
            figures = f"{speed.steps:,.0f} steps a second in place of {before.steps:,.0f}"
            if speed.steps < _WORTH * before.steps:
                return self._go_back(at_s, figures)
            log.info("%s (trainers × slots) is kept in place of %s: %s", self.scale, kept, figures)
        self._kept = self.scale, speed
        wanted = next(self._candidates(speed), None)
        if wanted is None:
            return None
        log.info("%s (trainers × slots) is tried in place of %s", wanted, self.scale)
        return self._change(wanted, at_s)

    def _candidates(self, speed: _Speed) -> Iterator[Scale]:
        if self._cores and speed.cores > _BUSY * self._cores:
            return
        doubled = (
            replace(self.scale, trainers=min(2 * self.scale.trainers, self._most.trainers)),
            replace(self.scale, slots=min(2 * self.scale.slots, self._most.slots)),
        )
        for scale in doubled:
            if scale != self.scale and scale not in self._refused and self._has_room():
                yield scale

    def _go_back(self, at_s: float, why: str) -> Scale:
        assert self._kept is not None
        kept, _ = self._kept
        log.info("%s (trainers × slots) is given up for %s: %s", self.scale, kept, why)
        self._refused.add(self.scale)
        return self._change(kept, at_s)

    def _change(self, scale: Scale, at_s: float) -> Scale:
        self.scale, self._changed_at_s, self._window = scale, at_s, []
        return scale

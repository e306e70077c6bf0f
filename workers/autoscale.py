"""How many trainers, and how many trials in each: tried while a sweep trains, kept where faster.

Speed is counted in steps a second of the whole worker while all of its slots are taken. On CPUs nothing is
tried while the cores are busy: then there is nothing to win. What is tried is twice the trainers, since
Python runs one thread at a time in each, and then twice the slots. No trial's bits depend on either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

log = logging.getLogger(__name__)

#: For so long speed is measured, and so long after a change of the scale it settles.
_WINDOW_S = 3.0
_SETTLE_S = 1.5
#: Of the samples in a window, so many must find all slots taken: between two trials one is free for a moment.
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
class StepCount:
    """How many steps a trainer has made since it started, and when it said so, in seconds."""

    made: int
    at_s: float


@dataclass(frozen=True)
class Sample:
    """What the trainers had done at a moment.

    Args:
        at_s: the moment, in seconds.
        steps: of each trainer.
        cpu_s: processor time that the trainers took since they started, in seconds.
        full: whether all slots are taken.
        sweeps: which sweeps are trained.
        packs: how many trials each trainer trains.
    """

    at_s: float
    steps: tuple[StepCount, ...]
    cpu_s: float
    full: bool
    sweeps: frozenset[str]
    packs: tuple[int, ...] = ()


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
        pays: whether another scale is worth a try: memory is there for as much again, and trials wait.
    """

    def __init__(self, scale: Scale, most: Scale, cores: int, pays: Callable[[], bool]) -> None:
        self.scale = scale
        self._most = most
        self._cores = cores
        self._pays = pays
        self._sweeps: frozenset[str] = frozenset()
        self._window: list[Sample] = []
        #: While another scale is tried: the one before it, and its speed.
        self._before: tuple[Scale, _Speed] | None = None
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
        if self._before and sample.at_s - self._changed_at_s > _PATIENCE_S:
            return self._go_back(self._before[0], sample.at_s, "it was never busy")
        return None

    def _begin(self, sample: Sample) -> Scale | None:
        """Begin anew with other sweeps; what was being tried is not known to be better."""
        going_back = None
        if self._before:
            going_back = self._go_back(self._before[0], sample.at_s, "its sweep ended")
        self._sweeps, self._window, self._changed_at_s = sample.sweeps, [], sample.at_s
        self._refused.clear()
        return going_back

    def _speed(self, sample: Sample) -> _Speed | None:
        """Return the speed over a window that is over now, and was busy; None where there is none."""
        if not _all_move(sample) or (self._window and _began_anew(self._window[-1], sample)):
            self._window = []
            return None
        self._window.append(sample)
        first, seconds = self._window[0], sample.at_s - self._window[0].at_s
        if seconds < _WINDOW_S:
            return None
        window, self._window = self._window, []
        if sum(one.full for one in window) < _FULL * len(window):
            return None
        # From what each trainer said to what it said: it speaks once a second, and not as the window ends.
        steps = sum(
            (new.made - old.made) / (new.at_s - old.at_s)
            for old, new in zip(first.steps, sample.steps, strict=True)
        )
        return _Speed(steps, (sample.cpu_s - first.cpu_s) / seconds)

    def _judge(self, speed: _Speed, at_s: float) -> Scale | None:
        if self._before:
            before, slower = self._before
            figures = f"{speed.steps:,.0f} steps a second in place of {slower.steps:,.0f}"
            if speed.steps < _WORTH * slower.steps:
                return self._go_back(before, at_s, figures)
            log.info("%s (trainers × slots) is kept in place of %s: %s", self.scale, before, figures)
            self._before = None
        wanted = next(self._candidates(speed), None)
        if wanted is None:
            return None
        log.info("%s (trainers × slots) is tried in place of %s", wanted, self.scale)
        self._before = self.scale, speed
        return self._change(wanted, at_s)

    def _candidates(self, speed: _Speed) -> Iterator[Scale]:
        if self._cores and speed.cores > _BUSY * self._cores:
            return
        doubled = (
            replace(self.scale, trainers=min(2 * self.scale.trainers, self._most.trainers)),
            replace(self.scale, slots=min(2 * self.scale.slots, self._most.slots)),
        )
        for scale in doubled:
            if scale != self.scale and scale not in self._refused and self._pays():
                yield scale

    def _go_back(self, before: Scale, at_s: float, why: str) -> Scale:
        log.info("%s (trainers × slots) is given up for %s: %s", self.scale, before, why)
        self._refused.add(self.scale)
        self._before = None
        return self._change(before, at_s)

    def _change(self, scale: Scale, at_s: float) -> Scale:
        self.scale, self._changed_at_s, self._window = scale, at_s, []
        return scale


def _all_move(sample: Sample) -> bool:
    """Whether every trainer makes steps: one that starts, loads or compiles makes none."""
    return all(steps.made and sample.at_s - steps.at_s <= _STANDS_S for steps in sample.steps)


def _began_anew(before: Sample, after: Sample) -> bool:
    """Whether a trainer came or went, or one ended and another one took its place."""
    if len(before.steps) != len(after.steps):
        return True
    return any(new.made < old.made for old, new in zip(before.steps, after.steps, strict=True))

"""How many trainers, and how many slots in each: tried while a sweep trains, kept if faster.

Speed is measured in steps per second of the whole worker while all of its slots are taken. On CPUs nothing is
tried while the cores are busy, since there is nothing to gain. It tries twice the trainers, since Python runs
one thread at a time in each, and then twice the slots. Neither affects a trial's bits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

log = logging.getLogger(__name__)

#: How long speed is measured, and how long it settles after a change of scale.
_WINDOW_S = 3.0
_SETTLE_S = 1.5
#: The share of samples in a window that must find all slots taken: between two trials one is free briefly.
_FULL = 0.7
#: A trainer without a step for this long is stalled.
_STANDS_S = 1.5
#: A scale is kept if it is this many times as fast.
_WORTH = 1.1
#: Cores this busy have nothing left to give.
_BUSY = 0.8
#: A scale that could not be measured within this time is given up.
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Scale:
    """The number of trainers of a worker, and of slots in each."""

    trainers: int
    slots: int

    def __str__(self) -> str:
        return f"{self.trainers} × {self.slots}"


@dataclass(frozen=True)
class StepCount:
    """The steps that a trainer has made since it started, and when it reported them, in seconds."""

    made: int
    at_s: float


@dataclass(frozen=True)
class Sample:
    """The trainers' counters at one moment.

    Args:
        at_s: the moment, in seconds.
        steps: of each trainer.
        cpu_s: processor time of the trainers since they started, in seconds.
        full: whether all slots are taken.
        sweeps: which sweeps are trained.
        packs: the number of trials in each trainer.
    """

    at_s: float
    steps: tuple[StepCount, ...]
    cpu_s: float
    full: bool
    sweeps: frozenset[str]
    packs: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Speed:
    """The result of a window: steps per second, and the number of busy cores."""

    steps: float
    cores: float


class Autoscaler:
    """Finds the fastest scale of a worker, sample by sample.

    Args:
        scale: the initial scale.
        most: the largest scale to try.
        cores: how many the trainers share; 0 if they train on GPUs, where cores say nothing.
        pays: whether another scale is worth a try: there is memory for it, and enough trials wait.
    """

    def __init__(self, scale: Scale, most: Scale, cores: int, pays: Callable[[], bool]) -> None:
        self.scale = scale
        self._most = most
        self._cores = cores
        self._pays = pays
        self._sweeps: frozenset[str] = frozenset()
        self._window: list[Sample] = []
        #: While another scale is tried: the previous one, and its speed.
        self._before: tuple[Scale, _Speed] | None = None
        self._refused: set[Scale] = set()
        self._changed_at_s = 0.0

    def observe(self, sample: Sample) -> Scale | None:
        """Take a sample, about two per second; return the scale to change to, if any."""
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
        """Start over with other sweeps; the scale being tried is not known to be better."""
        going_back = None
        if self._before:
            going_back = self._go_back(self._before[0], sample.at_s, "its sweep ended")
        self._sweeps, self._window, self._changed_at_s = sample.sweeps, [], sample.at_s
        self._refused.clear()
        return going_back

    def _speed(self, sample: Sample) -> _Speed | None:
        """Return the speed over a finished, busy window; None if there is none."""
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
        # Between reports of each trainer: these come once a second, not exactly at the window's end.
        steps = sum(
            (new.made - old.made) / (new.at_s - old.at_s)
            for old, new in zip(first.steps, sample.steps, strict=True)
        )
        return _Speed(steps, (sample.cpu_s - first.cpu_s) / seconds)

    def _judge(self, speed: _Speed, at_s: float) -> Scale | None:
        if self._before:
            before, slower = self._before
            figures = f"{speed.steps:,.0f} steps per second instead of {slower.steps:,.0f}"
            if speed.steps < _WORTH * slower.steps:
                return self._go_back(before, at_s, figures)
            log.info("%s (trainers × slots) is kept instead of %s: %s", self.scale, before, figures)
            self._before = None
        wanted = next(self._candidates(speed), None)
        if wanted is None:
            return None
        log.info("%s (trainers × slots) is tried instead of %s", wanted, self.scale)
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
        log.info("%s (trainers × slots) is abandoned for %s: %s", self.scale, before, why)
        self._refused.add(self.scale)
        self._before = None
        return self._change(before, at_s)

    def _change(self, scale: Scale, at_s: float) -> Scale:
        self.scale, self._changed_at_s, self._window = scale, at_s, []
        return scale


def _all_move(sample: Sample) -> bool:
    """Whether every trainer makes steps: one that is starting, loading or compiling makes none."""
    return all(steps.made and sample.at_s - steps.at_s <= _STANDS_S for steps in sample.steps)


def _began_anew(before: Sample, after: Sample) -> bool:
    """Whether a trainer was added, removed or replaced."""
    if len(before.steps) != len(after.steps):
        return True
    return any(new.made < old.made for old, new in zip(before.steps, after.steps, strict=True))

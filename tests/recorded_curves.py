"""Simulates a sweep over the recorded curves of benchmarks/curves, with the real rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasweep.scheduler.stopping import StoppingRule, Track

TABLES = Path(__file__).resolve().parents[1] / "benchmarks" / "curves"
NAMES = sorted(path.stem for path in TABLES.glob("*.npz"))


def best_so_far(name: str) -> NDArray[np.float64]:
    """Return a table's curves, shape (trials, epochs): the best value up to each epoch, NaN once diverged."""
    curves = np.load(TABLES / f"{name}.npz")["curves"].astype(np.float64)
    broken = np.isnan(curves).cumsum(axis=1) > 0
    return np.where(broken, np.nan, np.fmin.accumulate(curves, axis=1))


@dataclass
class Simulation:
    """Trains trials of a table, in the order of `trials`, on a number of slots; an epoch is the unit of time.

    Args:
        curves: as from `best_so_far`.
        trials: the row of the table for each trial.
        rule: the stopping rule, None for none.
        slots: how many train at once.
        pace: the time units that an epoch of trial n takes.
    """

    curves: NDArray[np.float64]
    trials: Sequence[int]
    rule: StoppingRule | None
    slots: int = 4
    pace: Any = None
    epochs: int = 0
    decisions: list[tuple[int, int, bool]] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._at: dict[int, dict[int, float]] = {n: {} for n in range(len(self.trials))}
        self._done = dict.fromkeys(range(len(self.trials)), 0)
        self._stands: dict[int, int] = {}
        self._next: dict[int, int | None] = {}
        self._ended: dict[int, float | None] = {}
        self._first = 0

    def run(self) -> float:
        """Run to the end; return the best final value of a trial."""
        queued: list[int] = []
        running: list[tuple[float, int]] = []
        begun, now = 0, 0.0
        while True:
            begun = self._begin(begun, queued)
            while queued and len(running) < self.slots:
                number = queued.pop(0)
                running.append((now + self._take(number), number))
            if not running:
                assert len(self._ended) == len(self.trials), "the rule waits for ever"
                return min(value for value in self._ended.values() if value is not None)
            now, number = min(running)
            running.remove((now, number))
            self._arrive(number)
            queued += self._decide()

    def _begin(self, begun: int, queued: list[int]) -> int:
        limit = self.rule.open_until(self._settled(), len(self.trials)) if self.rule else len(self.trials)
        for number in range(begun, limit):
            self._next[number] = self.rule.first_rung(number) if self.rule else None
            queued.append(number)
        return max(begun, limit)

    def _take(self, number: int) -> float:
        epochs = (self._next[number] or self.curves.shape[1]) - self._done[number]
        return epochs * (self.pace(number) if self.pace else 1.0)

    def _arrive(self, number: int) -> None:
        row, rung = self.curves[self.trials[number]], self._next[number]
        until = rung or len(row)
        alive = int(np.isfinite(row[:until]).sum())
        self.epochs += min(until, alive + 1) - self._done[number]
        self._done[number] = until
        if alive < until:
            self._ended[number] = None
        elif rung is None:
            self._ended[number] = float(row[-1])
        else:
            self._at[number][rung] = float(row[rung - 1])
            self._stands[number] = rung

    def _decide(self) -> list[int]:
        if self.rule is None:
            return []
        base = self.rule.base(self._settled())
        curves = {n: self._curve(n) for n in range(base, len(self._next))}
        going = []
        for ruling in self.rule.decide(curves, len(self.trials)):
            self.decisions.append((ruling.number, ruling.rung, ruling.goes_on))
            del self._stands[ruling.number]
            if ruling.goes_on:
                self._next[ruling.number] = ruling.next_rung
                going.append(ruling.number)
            else:
                self._ended[ruling.number] = self._at[ruling.number][ruling.rung]
                self.stopped.add(ruling.number)
        return going

    def _settled(self) -> int:
        """Return the number of leading trials that have ended."""
        while self._first in self._ended:
            self._first += 1
        return min(self._first, len(self.trials) - 1)

    def _curve(self, n: int) -> Track:
        value = None if n in self.stopped else self._ended.get(n)
        return Track(n, self._at[n], self._stands.get(n), n in self._ended, value)

"""The trials of a sweep and the attempts at them in memory, read again only where they have changed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from kerasweep.jobs.store.models import AttemptRecord
from kerasweep.jobs.store.overview import TrialMark
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.web.shelf import Cache, Shelf, uncollected

#: How many sweeps' trials are kept, and how often every trial is looked at, in seconds.
_MOST_SWEEPS, _WHOLE_S = 16, 30.0

#: What a trial is ranked by: its value (negative where the largest is the best), and its number.
_Ranked = tuple[float, int, Trial]


@dataclass(frozen=True)
class Roster:
    """Every trial of a sweep at one moment.

    Args:
        trials: by number.
        ranking: those with a value, best first.
        attempts: the attempts at them, in the order in which they began.
        marks: tell whether a trial has changed; see `changed_trials`.
        texts: what can be searched for in each trial, in lower case, by number.
    """

    trials: Sequence[Trial] = ()
    ranking: Sequence[Trial] = ()
    attempts: Sequence[AttemptRecord] = ()
    marks: AbstractSet[TrialMark] = frozenset()
    texts: Mapping[int, str] = field(default_factory=dict)
    _ranked: Sequence[_Ranked] = ()
    _journal: int | None = field(default=None, compare=False)
    _whole_at: float = field(default=float("-inf"), compare=False)

    def refreshed(self, sweep: Sweep, now: float) -> Roster:
        """Return the trials as they are now; only those that have changed are read.

        Args:
            sweep: the sweep.
            now: the time; now and then every trial is looked at, whatever the journal says.
        """
        records, whole = sweep.client.records, now - self._whole_at > _WHOLE_S
        found, journal = records.changed_trials(sweep.id, self.marks, None if whole else self._journal)
        read: dict[str, Any] = {"_journal": journal, "_whole_at": now if whole else self._whole_at}
        changed = {one.number: Trial.of(one) for one in found}
        if not changed:
            return replace(self, **read)
        trials = {one.number: one for one in self.trials} | changed
        sign = 1.0 if sweep.spec.metric.goal == "minimize" else -1.0
        ranked = [one for one in self._ranked if one[1] not in changed]
        ranked += [
            (sign * one.value, one.number, one)
            for one in changed.values()
            if one.value is not None and math.isfinite(one.value)
        ]
        ranked.sort()
        kept = [one for one in self.attempts if one.trial not in changed]
        stale = {_mark_of(one) for one in self.trials if one.number in changed}
        return Roster(
            [trials[number] for number in sorted(trials)],
            [one for _, _, one in ranked],
            sorted([*kept, *records.attempts_at(sweep.id, changed.keys())], key=attrgetter("started_at")),
            (self.marks - stale) | {_mark_of(one) for one in changed.values()},
            {**self.texts, **{number: _text_of(one) for number, one in changed.items()}},
            ranked,
            **read,
        )


class Rosters:
    """Keeps the trials of the sweeps that were looked at last.

    Args:
        shelf: tells when a sweep has changed.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._known = Cache(_MOST_SWEEPS)

    def of(self, sweep: Sweep) -> Roster:
        """Return a sweep's trials."""
        last: list[Roster] = self._known.get(sweep.id, str, lambda: [Roster()])

        def read() -> Roster:
            with uncollected():
                last[0] = last[0].refreshed(sweep, time.monotonic())
            return last[0]

        return self._shelf.kept(sweep.id, "roster", read)


def _mark_of(trial: Trial) -> TrialMark:
    return trial.number, str(trial.state), trial.attempts, trial.epochs


def _text_of(trial: Trial) -> str:
    told = [f"#{trial.number}", *(f"{name}={value}" for name, value in trial.params.items())]
    if trial.failure:
        told.append(f"{trial.failure.cls}: {trial.failure.message}")
    return "\n".join(told).lower()

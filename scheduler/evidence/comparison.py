"""Two sweeps side by side: what they found, how fast, and what differs in their files.

A value counts from the moment at which its trial ended, or the last trial of its variant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.sweepfile import template
from kerasweep.jobs.trial import SweepState
from kerasweep.jobs.variants import variants_of
from kerasweep.scheduler.client import notebook, wording

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import SweepRecord, TrialRecord
    from kerasweep.scheduler.client.connections import Connections

#: Keys of a sweep file in which two sweeps may differ without it meaning anything.
_MEANINGLESS = ("name", "version")


@dataclass(frozen=True)
class Improvement:
    """A trial that was better than all that had ended before it.

    Args:
        trial: its number.
        value: its value; with repeats, the mean of its variant.
        elapsed_s: the seconds of training until then.
        epochs: the epochs that all ended trials had trained by then.
    """

    trial: int
    value: float
    elapsed_s: float
    epochs: int


@dataclass(frozen=True)
class Side:
    """One of the sweeps.

    Args:
        sweep: its id.
        name: its name.
        state: its state.
        metric: the metric's name.
        goal: minimize or maximize.
        ended: how many of its trials have ended.
        max_trials: how many it may have.
        elapsed_s: the seconds of training so far.
        epochs: the epochs that its ended trials trained.
        params: the values of the best trial; empty where there is none.
        best_epoch: that trial's best epoch.
        curve: the improvements, in order; the last is the best.
        reached_s: the seconds of training until it was as good as the other's best; None if it never was.
        reached_epochs: the epochs until then.
    """

    sweep: str
    name: str
    state: SweepState
    metric: str
    goal: str
    ended: int
    max_trials: int
    elapsed_s: float
    epochs: int
    params: Mapping[str, Any]
    best_epoch: int | None
    curve: tuple[Improvement, ...]
    reached_s: float | None = None
    reached_epochs: int | None = None

    @property
    def value(self) -> float | None:
        """The best value."""
        return self.curve[-1].value if self.curve else None

    def at_least(self, value: float) -> Improvement | None:
        """Return the first improvement that is as good as a value."""
        sign = -1.0 if self.goal == "maximize" else 1.0
        return next((one for one in self.curve if sign * one.value <= sign * value), None)


@dataclass(frozen=True)
class Difference:
    """A key of the sweep file, `parameters.units`, with the value that each sweep has; None for none."""

    key: str
    values: tuple[Any, Any]

    def texts(self) -> list[str]:
        """Return the two values as in a sweep file."""
        from kerasweep.jobs.sweepfile.rules import show

        return [wording.NOTHING if value is None else show(_word(value), bare=True) for value in self.values]


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two sweeps compared.

    Args:
        sweeps: the two.
        differences: what differs in their files, spaces and code, and in the sweep that they learned from.
        better: the id of the one with the better best value; None if they are equal or cannot be compared.
        note: why they cannot be compared, if so.
    """

    sweeps: tuple[Side, Side]
    differences: tuple[Difference, ...]
    better: str | None
    note: str | None

    def __repr__(self) -> str:
        told = [f"{one.name!r}: {one.metric} {wording.metric(one.value)}" for one in self.sweeps]
        return f"Comparison({', '.join(told)}, {len(self.differences)} differences)"

    def _repr_html_(self) -> str:
        return notebook.grid(["", *(one.name for one in self.sweeps)], self.rows())

    def rows(self) -> list[tuple[str, str, str]]:
        """Return what both have in words: a title, and the two texts."""
        columns = [_told(one) for one in self.sweeps]
        names = dict.fromkeys(name for one in self.sweeps for name in one.params)
        short = wording.short_names(names)
        rows = [(title, columns[0][title], columns[1][title]) for title in columns[0]]
        for name in names:
            values = [
                wording.value(one.params[name]) if name in one.params else wording.NOTHING
                for one in self.sweeps
            ]
            rows.append((f"best {short[name]}", values[0], values[1]))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the document that `kerasweep compare -o json` prints."""
        sides = [asdict(one) | {"state": str(one.state), "value": one.value} for one in self.sweeps]
        return {
            "sweeps": [{**one, "curve": list(one["curve"])} for one in sides],
            "better": self.better,
            "note": self.note,
            "differences": [{"key": one.key, "values": list(one.values)} for one in self.differences],
        }


def compare(client: Connections, first: SweepRecord, second: SweepRecord) -> Comparison:
    """Compare two sweeps of one store."""
    sides = [side_of(client, one) for one in (first, second)]
    note = None
    if (sides[0].metric, sides[0].goal) != (sides[1].metric, sides[1].goal):
        told = [f"{one.goal} {one.metric}" for one in sides]
        note = f"the values are of different metrics, {told[0]} and {told[1]}, and cannot be compared"
    elif any(not one.curve for one in sides):
        note = "a sweep can be compared once a trial has ended with a value"
    both = (sides[0], sides[1]) if note else (_raced(sides[0], sides[1]), _raced(sides[1], sides[0]))
    return Comparison(both, tuple(_differences(first, second)), None if note else _better(both), note)


def side_of(client: Connections, sweep: SweepRecord) -> Side:
    """Return what a sweep has reached."""
    trials = client.records.trials(sweep.id)
    curve, spent_s = improvements(sweep, trials, partial(client.records.spent_until, sweep.id))
    best = trials[curve[-1].trial] if curve else None
    return Side(
        sweep=sweep.id,
        name=sweep.name,
        state=sweep.state,
        metric=sweep.spec.metric.name,
        goal=sweep.spec.metric.goal,
        ended=sum(one.state.final for one in trials),
        max_trials=sweep.max_trials,
        elapsed_s=spent_s,
        epochs=sum(one.epochs for one in trials),
        params=dict(best.params) if best else {},
        best_epoch=best.best_epoch if best else None,
        curve=curve,
    )


def improvements(
    sweep: SweepRecord,
    trials: Sequence[TrialRecord],
    spent_until: Callable[[Sequence[float]], Sequence[float]],
) -> tuple[tuple[Improvement, ...], float]:
    """Return the trials of a sweep that were better than all before, in the order in which they ended.

    Args:
        sweep: the sweep.
        trials: its trials, by number.
        spent_until: returns the seconds of training before each of some moments.

    Returns:
        The trials, and the seconds of training until now: all from one reading of the clock.
    """
    found = list(_better_than_before(sweep, trials))
    *elapsed, spent_s = spent_until([*(at for _, at, _ in found), math.inf])
    curve = tuple(
        Improvement(best, value, round(seconds, 3), epochs)
        for ((best, value), _, epochs), seconds in zip(found, elapsed, strict=True)
    )
    return curve, round(spent_s, 3)


def _better_than_before(
    sweep: SweepRecord, trials: Sequence[TrialRecord]
) -> Iterator[tuple[tuple[int, float], float, int]]:
    """Yield the trial and value of each improvement, when it ended, and the epochs trained by then."""
    sign = -1.0 if sweep.spec.metric.goal == "maximize" else 1.0
    ended = [one for one in variants_of(sweep.spec, trials) if one.state.final]
    at = {one.number: max(trials[n].finished_at or 0.0 for n in one.trials) for one in ended}
    ended.sort(key=lambda one: (at[one.number], one.number))
    trained = accumulate(sum(trials[n].epochs for n in one.trials) for one in ended)
    best: float | None = None
    for one, epochs in zip(ended, trained, strict=True):
        if one.value is None or one.best is None or (best is not None and sign * one.value >= best):
            continue
        best = sign * one.value
        yield (one.best, one.value), at[one.number], epochs


def _raced(one: Side, other: Side) -> Side:
    from dataclasses import replace

    found = one.at_least(other.curve[-1].value)
    return one if found is None else replace(one, reached_s=found.elapsed_s, reached_epochs=found.epochs)


def _better(sides: tuple[Side, Side]) -> str | None:
    values, maximize = [one.curve[-1].value for one in sides], sides[0].goal == "maximize"
    return None if values[0] == values[1] else sides[(values[1] > values[0]) is maximize].sweep


def _told(one: Side) -> dict[str, str]:
    best = one.curve[-1] if one.curve else None
    reached = "never" if one.reached_s is None else wording.duration(one.reached_s)
    return {
        "sweep": one.sweep,
        "state": str(one.state),
        "trials": f"{one.ended} of {one.max_trials}",
        "best": f"{one.metric} {wording.metric(one.value)}" if best else wording.NOTHING,
        "of trial": f"{best.trial}, epoch {one.best_epoch}" if best else wording.NOTHING,
        "found after": f"{wording.duration(best.elapsed_s)}, {best.epochs} epochs"
        if best
        else wording.NOTHING,
        "in all": f"{wording.duration(one.elapsed_s or None)}, {one.epochs} epochs",
        "as good as the other's best after": reached
        + (f", {one.reached_epochs} epochs" if one.reached_epochs is not None else ""),
    }


def _differences(first: SweepRecord, second: SweepRecord) -> Iterator[Difference]:
    """Yield the keys of the two sweep files that differ, and whether the code and the earlier sweep do.

    A default that is written does not differ from one that is not.
    """
    meant = [_flat(one, template.complete(one.spec.training)) for one in (first, second)]
    written = [_flat(one, one.spec.training) for one in (first, second)]
    for key in dict.fromkeys([*meant[0], *meant[1]]):
        if meant[0].get(key) != meant[1].get(key):
            values = [texts.get(key, one.get(key)) for texts, one in zip(written, meant, strict=True)]
            yield Difference(key, (values[0], values[1]))


def _flat(sweep: SweepRecord, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep file with this training block, with dotted keys; a distribution stays whole."""
    written = _bare({**sweep.spec.model_dump(mode="json"), "training": training})
    found: dict[str, Any] = {}
    for key, value in written.items():
        if key in _MEANINGLESS:
            continue
        if isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = value
    earlier = {"warm_from": sweep.source["warm"]["sweep"]} if "warm" in sweep.source else {}
    return {**found, "code": sweep.bundle.sha256[:12], **earlier}


def _word(value: Any) -> Any:
    """Return `constant` for {constant: {}}, as it is written."""
    if isinstance(value, dict) and len(value) == 1 and {} in value.values():
        return next(iter(value))
    return value


def _bare(value: Any) -> Any:
    """Return the value without keys that say nothing."""
    if isinstance(value, dict):
        return {name: _bare(one) for name, one in value.items() if one is not None}
    return [_bare(one) for one in value] if isinstance(value, list) else value

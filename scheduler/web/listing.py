"""Which trials a page shows, and in which order: all of it is in the URL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.objects import Trial

PAGE_ROWS = 50
_SORTS = ("trial", "state", "value", "epochs", "attempts")
_PARAM = "params."
_MOST_BOUNDS = 20


@dataclass(frozen=True)
class Within:
    """A range of a parameter, or of the value, selected with the brush.

    Args:
        name: the parameter's name, or `value`.
        low: the lower bound, inclusive.
        high: the upper bound, inclusive.
    """

    name: str
    low: float
    high: float

    def holds(self, trial: Trial) -> bool:
        """Tell whether the trial is in the range."""
        given = trial.value if self.name == "value" else trial.params.get(self.name)
        if isinstance(given, bool) or not isinstance(given, int | float):
            return False
        return self.low <= given <= self.high

    def __str__(self) -> str:
        return f"{self.name}:{self.low!r}:{self.high!r}"


@dataclass(frozen=True)
class Among:
    """A parameter with one of several values, as shown in a table.

    Args:
        name: the parameter's name.
        labels: the values.
    """

    name: str
    labels: tuple[str, ...]

    def holds(self, trial: Trial) -> bool:
        """Tell whether the trial has one of them."""
        return self.name in trial.params and wording.brief(trial.params[self.name]) in self.labels


@dataclass(frozen=True)
class Wanted:
    """The query of a sweep's page.

    Args:
        states: only trials in these states; none means all.
        text: only trials whose number, parameters or failure contain this text.
        within: ranges to filter by.
        among: values to filter by.
        sort: what to sort by.
        descending: whether the order is reversed.
        page: the page of the table, from 1.
        best: how many curves are drawn.
    """

    states: tuple[TrialState, ...] = ()
    text: str = ""
    within: tuple[Within, ...] = ()
    among: tuple[Among, ...] = ()
    sort: str = "trial"
    descending: bool = False
    page: int = 1
    best: int = 8

    @classmethod
    def of(cls, query: QueryParams, names: Sequence[str]) -> Wanted:
        """Parse a query.

        Args:
            query: the query.
            names: the parameters' names.

        Raises:
            InputError: the query is not valid.
        """
        sort = query.get("sort", "trial")
        if sort not in _SORTS and sort.removeprefix(_PARAM) not in names:
            raise InputError(f"trials are sorted by {', '.join(_SORTS)} or a parameter, got {sort!r}")
        return cls(
            states=tuple(_state(one) for one in query.getlist("state") if one),
            text=query.get("q", "").strip()[:200],
            within=_bounds(query, names),
            among=_among(query.getlist("is")[:_MOST_BOUNDS], names),
            sort=sort,
            descending=query.get("desc") == "1",
            page=_count(query.get("page", "1"), "page", 1_000_000),
            best=_count(query.get("best", "8"), "best", 24),
        )

    def query(self, **changes: object) -> str:
        """Return this query with some of it changed."""
        given: dict[str, object] = {
            "state": [str(state) for state in self.states],
            "q": self.text,
            "within": [str(one) for one in self.within],
            "is": [f"{one.name}:{label}" for one in self.among for label in one.labels],
            "sort": self.sort if self.sort != "trial" else "",
            "desc": "1" if self.descending else "",
            "page": self.page if self.page > 1 else "",
            "best": self.best if self.best != Wanted.best else "",
            **changes,
        }
        return urlencode({name: value for name, value in given.items() if value}, doseq=True)

    def order(self, column: str) -> str:
        """Return the query that sorts by a column, reversed if it already does."""
        turned = column == self.sort and not self.descending
        return self.query(sort=column, desc="1" if turned else "", page="")

    def chosen(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the requested trials in the requested order."""
        found = [trial for trial in self.framed(trials) if self.brushed(trial)]
        known = [trial for trial in found if self._key(trial) is not None]
        absent = [trial for trial in found if self._key(trial) is None]
        return sorted(known, key=lambda one: self._key(one) or (), reverse=self.descending) + absent

    def framed(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials with the requested states and text, within the ranges or not."""
        text = self.text.lower()
        return [
            trial
            for trial in trials
            if (not self.states or trial.state in self.states) and (not text or _holds(trial, text))
        ]

    def brushed(self, trial: Trial) -> bool:
        """Tell whether a trial is within the requested ranges, and has one of the requested values."""
        return all(one.holds(trial) for one in self.within) and all(one.holds(trial) for one in self.among)

    def picks(self, column: str, label: str) -> bool:
        """Tell whether one value of a parameter was requested."""
        return any(one.name == column and label in one.labels for one in self.among)

    def only(self, column: str, label: str) -> str:
        """Return the query that adds, or removes, one value of a parameter."""
        asked = [(one.name, each) for one in self.among for each in one.labels]
        pair = (column, label)
        asked = [one for one in asked if one != pair] if pair in asked else [*asked, pair]
        return self.query(**{"is": [f"{name}:{each}" for name, each in asked], "page": ""})

    def _key(self, trial: Trial) -> tuple[object, ...] | None:
        """Return a trial's sort key, or None if it has none; numbers before words."""
        if self.sort in ("trial", "epochs", "attempts", "state"):
            field = "number" if self.sort == "trial" else self.sort
            return (getattr(trial, field), trial.number)
        given = trial.value if self.sort == "value" else trial.params.get(self.sort.removeprefix(_PARAM))
        if isinstance(given, int | float):
            return (0, float(given), "", trial.number) if math.isfinite(given) else None
        return None if given is None else (1, 0.0, str(given), trial.number)


def best_of(trials: Sequence[Trial], goal: str, count: int) -> list[Trial]:
    """Return the best trials, best first; those without a value come last, newest first."""
    sign = 1.0 if goal == "minimize" else -1.0
    valued = [one for one in trials if one.value is not None and math.isfinite(one.value)]
    others = [one for one in trials if one.value is None and one.epochs]
    ranked = sorted(valued, key=lambda one: (sign * (one.value or 0.0), one.number))
    return (ranked + others[::-1])[:count]


def _holds(trial: Trial, text: str) -> bool:
    facts: Mapping[str, object] = trial.params
    told = [f"#{trial.number}", *(f"{name}={value}" for name, value in facts.items())]
    if trial.failure:
        told.append(f"{trial.failure.cls}: {trial.failure.message}")
    return any(text in one.lower() for one in told)


def _state(given: str) -> TrialState:
    try:
        return TrialState(given)
    except ValueError:
        raise InputError(f"a state is one of {', '.join(TrialState)}, got {given[:40]!r}") from None


def _bounds(query: QueryParams, names: Sequence[str]) -> tuple[Within, ...]:
    """Read ranges: those of the brush, and the typed one, which replaces that of its axis."""
    found = [_within(one, names) for one in query.getlist("within")[:_MOST_BOUNDS] if one]
    axis = query.get("axis", "")
    low, high = (query.get(name, "").strip() for name in ("from", "to"))
    if axis and (low or high):
        typed = _within(f"{axis}:{low or '-inf'}:{high or 'inf'}", names)
        found = [*(one for one in found if one.name != typed.name), typed]
    return tuple(found)


def _among(given: Sequence[str], names: Sequence[str]) -> tuple[Among, ...]:
    labels: dict[str, list[str]] = {}
    for one in filter(None, given):
        name = next((name for name in names if one.startswith(f"{name}:")), None)
        if name is None:
            raise InputError(f"a value reads NAME:VALUE with the name of a parameter, got {one[:80]!r}")
        labels.setdefault(name, []).append(one[len(name) + 1 :])
    return tuple(Among(name, tuple(some)) for name, some in labels.items())


def _within(given: str, names: Sequence[str]) -> Within:
    head, _, high = given.rpartition(":")
    name, _, low = head.rpartition(":")
    try:
        bounds = float(low), float(high)
    except ValueError:
        raise InputError(f"bounds read NAME:LOW:HIGH, got {given[:80]!r}") from None
    if (name != "value" and name not in names) or any(map(math.isnan, bounds)):
        raise InputError(f"bounds name a parameter or value, got {given[:80]!r}")
    return Within(name, *bounds)


def _count(given: str, what: str, most: int) -> int:
    if not given.isdecimal() or not 1 <= int(given[:9]) <= most:
        raise InputError(f"{what} is a whole number from 1 to {most}, got {given[:20]!r}")
    return int(given)

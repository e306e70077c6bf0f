"""Which trials a page shows, and in which order: all of it is in the URL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.jobs.trial import TrialState
from kerasweep.jobs.variants import Variant, condensed, ranked_variants, variants_of
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.web.roster import Roster

PAGE_ROWS = 50
_SORTS = ("trial", "state", "value", "epochs", "attempts")
_VARIANT_SORTS = ("variant", "state", "value", "std", "lowest", "highest")
_NUMBERS = {"trial": "number", "variant": "number"}
_PARAM = "params."
_MOST_BOUNDS = 20
#: The same few values occur in thousands of trials.
_brief = lru_cache(4096, typed=True)(wording.brief)

#: A row of a table.
Row = TypeVar("Row", Trial, Variant)


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
        return type(given) in (int, float) and self.low <= given <= self.high  # type: ignore[operator]

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
        return self.name in trial.params and _label(trial.params[self.name]) in self.labels


@dataclass(frozen=True)
class Excerpt(Generic[Row]):
    """A page of a table.

    Args:
        rows: its rows.
        page: its number, from 1.
        pages: how many there are.
        count: how many rows all of them have.
    """

    rows: Sequence[Row]
    page: int
    pages: int
    count: int

    @classmethod
    def of(cls, rows: Sequence[Row], page: int) -> Excerpt[Row]:
        """Return the requested page, or the last one."""
        pages = max(1, -(-len(rows) // PAGE_ROWS))
        page = min(page, pages)
        return cls(rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS], page, pages, len(rows))


@dataclass(frozen=True)
class Selection:
    """The trials that a query selects.

    Args:
        chosen: those to show, by number.
        framed: those with a value and the requested states and text, within the ranges or not, best first.
        ranked: those to show that have a value, best first.
    """

    chosen: Sequence[Trial]
    framed: Sequence[Trial]
    ranked: Sequence[Trial]

    def compared(self, spec: SweepSpec, trials: Sequence[Trial]) -> Sequence[Trial]:
        """Return what is compared: the ranked trials or, with `repeats`, the variants of which one is shown.

        Args:
            spec: the sweep file.
            trials: all trials of the sweep, by number.
        """
        if spec.times == 1:
            return self.ranked
        shown = {one.number // spec.times for one in self.chosen}
        return [one for one in condensed(spec, trials) if one.number in shown]

    def best(self, count: int) -> list[Trial]:
        """Return the best trials; those that have epochs but no value yet come last, newest first."""
        found = list(self.ranked[:count])
        if len(found) < count:
            found += [one for one in self.chosen[::-1] if one.value is None and one.epochs]
        return found[:count]


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
        page: the page of the trials, from 1.
        variants: the page of the variants, from 1.
        best: how many curves are drawn.
    """

    states: tuple[TrialState, ...] = ()
    text: str = ""
    within: tuple[Within, ...] = ()
    among: tuple[Among, ...] = ()
    sort: str = "trial"
    descending: bool = False
    page: int = 1
    variants: int = 1
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
        if sort not in (*_SORTS, *_VARIANT_SORTS) and sort.removeprefix(_PARAM) not in names:
            raise InputError(f"trials are sorted by {', '.join(_SORTS)} or a parameter, got {sort!r}")
        return cls(
            states=tuple(_state(one) for one in query.getlist("state") if one),
            text=query.get("q", "").strip()[:200],
            within=_bounds(query, names),
            among=_among(query.getlist("is")[:_MOST_BOUNDS], names),
            sort=sort,
            descending=query.get("desc") == "1",
            page=_count(query.get("page", "1"), "page", 1_000_000),
            variants=_count(query.get("variants", "1"), "variants", 1_000_000),
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
            "variants": self.variants if self.variants > 1 else "",
            "best": self.best if self.best != Wanted.best else "",
            **changes,
        }
        return urlencode({name: value for name, value in given.items() if value}, doseq=True)

    def order(self, column: str) -> str:
        """Return the query that sorts by a column, reversed if it already does."""
        turned = column == self.sort and not self.descending
        return self.query(sort=column, desc="1" if turned else "", page="", variants="")

    @property
    def cut(self) -> str:
        """What decides which trials are shown, in whatever order."""
        return self.query(sort="", desc="", page="", variants="", best="")

    def select(self, roster: Roster) -> Selection:
        """Return the requested trials."""
        framed = self._framed(roster)
        ranked = roster.ranking if framed is roster.trials else _among_them(roster.ranking, framed)
        if not self.within and not self.among:
            return Selection(framed, ranked, ranked)
        chosen = framed
        tests: tuple[Within | Among, ...] = (*self.within, *self.among)
        for test in tests:
            chosen = [one for one in chosen if test.holds(one)]
        return Selection(chosen, ranked, _among_them(ranked, chosen))

    def ordered(self, selection: Selection, goal: str) -> Sequence[Trial]:
        """Return the selected trials in the requested order; those without a sort key come last."""
        chosen = selection.chosen
        if self.sort == "trial":
            return chosen[::-1] if self.descending else chosen
        if self.sort == "value":
            valued = selection.ranked if self.descending == (goal != "minimize") else selection.ranked[::-1]
            numbers = {one.number for one in valued}
            return [*valued, *(one for one in chosen if one.number not in numbers)]
        return chosen if self.sort in _VARIANT_SORTS and self.sort not in _SORTS else self._sorted(chosen)

    def ordered_variants(self, ranked: Sequence[Variant]) -> Sequence[Variant]:
        """Return variants, given best first, in the requested order if it is one of theirs."""
        mine = self.sort in _VARIANT_SORTS or self.sort not in _SORTS
        return self._sorted(ranked) if mine else ranked

    def _sorted(self, some: Sequence[Row]) -> list[Row]:
        keyed = [(self._key(one), one) for one in some]
        known = sorted(
            ((key, one) for key, one in keyed if key is not None),
            key=lambda pair: pair[0],
            reverse=self.descending,
        )
        return [one for _, one in known] + [one for key, one in keyed if key is None]

    def _framed(self, roster: Roster) -> Sequence[Trial]:
        """Return the trials with the requested states and text, within the ranges or not."""
        found: Sequence[Trial] = roster.trials
        if self.states:
            found = [trial for trial in found if trial.state in self.states]
        if self.text:
            text = self.text.lower()
            found = [trial for trial in found if text in roster.texts[trial.number]]
        return found

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
        return self.query(**{"is": [f"{name}:{each}" for name, each in asked], "page": "", "variants": ""})

    def _key(self, one: Trial | Variant) -> tuple[object, ...] | None:
        """Return the sort key of a row, or None if it has none; numbers before words."""
        if self.sort in (*_SORTS, *_VARIANT_SORTS):
            given = getattr(one, _NUMBERS.get(self.sort, self.sort))
        else:
            given = one.params.get(self.sort.removeprefix(_PARAM))
        if isinstance(given, int | float):
            return (0, float(given), "", one.number) if math.isfinite(given) else None
        return None if given is None else (1, 0.0, str(given), one.number)


def variants_best_first(spec: SweepSpec, trials: Sequence[Trial]) -> list[Variant]:
    """Return the variants of a sweep, best first; those without a value come last."""
    ranked = ranked_variants(spec, trials)
    have = {one.number for one in ranked}
    return [*ranked, *(one for one in variants_of(spec, trials) if one.number not in have)]


def _label(value: Any) -> str:
    return _brief(value) if isinstance(value, str | int | float | None) else wording.brief(value)


def _among_them(ranking: Sequence[Trial], some: Sequence[Trial]) -> Sequence[Trial]:
    numbers = {one.number for one in some}
    return [one for one in ranking if one.number in numbers]


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

"""What every view of a sweep shows, whatever draws it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from kerasweep.jobs.trial import TrialState
from kerasweep.jobs.variants import condensed
from kerasweep.scheduler.client import wording
from kerasweep.scheduler.show.scales import AxisScale
from kerasweep.scheduler.show.study import Comparable, counts, shares_of

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import SweepRecord, TrialRecord

BLUE, GREEN, RED, QUIET, LINE, INK = "#0b57a4", "#1b6e33", "#a8201a", "#52606f", "#c8d0d9", "#1b2430"
GROUND = "#ffffff"
#: The colours of curves, in order.
COLOURS = (BLUE, RED, GREEN, "#7a4d00", "#6a2c91", "#00606b")
_MOST_AXES = 12
#: Longer labels are broken into lines of about this many characters.
_LINE_CHARS = 16


class Views(Protocol):
    """Draws each view of a sweep as a figure of its library's."""

    def history(self) -> Any: ...

    def parallel(self) -> Any: ...

    def slices(self) -> Any: ...

    def importances(self) -> Any: ...


def drawn(views: Views, view: str) -> Any:
    """Return the figure of a view, by the name that it has on the command line."""
    return {
        "history": views.history,
        "parallel": views.parallel,
        "slice": views.slices,
        "importances": views.importances,
    }[view]()


class Scene:
    """A sweep's trials that count, their parameters and their values.

    In a sweep with `repeats`, variants with their means take the place of trials; `each` holds the trials.

    Args:
        sweep: the sweep.
        trials: its trials, by number.
        show: makes a text from the sweep file safe to draw.
        rungs: the trials' values at the rungs of a stopping rule, by number and epoch.
    """

    def __init__(
        self,
        sweep: SweepRecord,
        trials: Sequence[TrialRecord],
        show: Callable[[str], str],
        rungs: Mapping[int, Mapping[int, float]],
    ) -> None:
        self.what = "trial" if sweep.spec.times == 1 else "variant"
        self.each = [one for one in trials if counts(one)] if sweep.spec.times > 1 else []
        trials = condensed(sweep.spec, trials)
        self._sweep, self._show = sweep, show
        self._comparable = Comparable.of(trials, rungs)
        self.counted = [one for one in trials if counts(one)]
        self.failed = [one.number for one in trials if one.state is TrialState.FAILED]
        names = wording.short_names(sweep.spec.space().varied)
        self.names: Mapping[str, str] = {name: show(text) for name, text in list(names.items())[:_MOST_AXES]}
        self.metric = show(sweep.spec.metric.name)
        lowest = sweep.spec.metric.goal == "minimize"
        self._best_of: Callable[..., TrialRecord] = min if lowest else max
        self.up = AxisScale.of([one.value for one in [*self.counted, *self.each]])
        self._goal = "the lower the better" if lowest else "the higher the better"

    @property
    def best(self) -> TrialRecord:
        """The best trial."""
        return self._best_of(self.counted, key=lambda one: one.value)

    @property
    def complete(self) -> list[TrialRecord]:
        """The trials that have all parameters, the best one last."""
        some = [one for one in self.counted if all(name in one.params for name in self.names)]
        return sorted(some, key=lambda one: one.number == self.best.number)

    def title(self, view: str) -> str:
        """Return a view's title."""
        told = {
            "history": f"{self.metric} of each {self.what}",
            "parallel": f"parameters and {self.metric} ({self._goal})",
            "slice": f"{self.metric} by parameter ({self._goal})",
            "importances": f"what explains {self._compared()}",
        }[view]
        return f"{self._show(self._sweep.name)}: {told}"

    def _compared(self) -> str:
        found = self._comparable
        by = "" if found.epoch is None else f" by epoch {found.epoch}"
        what = f"completed {self.what}" if found.without and found.epoch is None else self.what
        return f"{self.metric}{by}, from {wording.count(len(found.trials), what)}"

    def best_so_far(self) -> tuple[list[int], list[float]]:
        """Return the numbers of the trials, and the best value up to each."""
        best, numbers, values = None, list[int](), list[float]()
        for one in self.counted:
            best = one if best is None else self._best_of((best, one), key=lambda each: each.value)
            numbers.append(one.number)
            values.append(float(best.value or 0.0))
        return numbers, values

    def spread(self) -> dict[int, list[float]]:
        """Return the values of each variant's trials, by its number; empty without repeats."""
        found: dict[int, list[float]] = {}
        for one in self.each:
            found.setdefault(one.number // self._sweep.spec.times, []).append(float(one.value or 0.0))
        return found

    def scale(self, name: str) -> AxisScale:
        """Return a parameter's axis."""
        return AxisScale.of([one.params[name] for one in self.counted if name in one.params] or [0.0])

    def shares(self) -> dict[str, float]:
        """Return each parameter's share of what explains the value (PED-ANOVA), the largest first."""
        return shares_of(self._sweep, self._comparable.trials, self._show)


def across(trial: TrialRecord, name: str, scale: AxisScale) -> float | None:
    """Return where a trial lies on a parameter's axis: its value, or the place of its label."""
    if name not in trial.params:
        return None
    value = trial.params[name]
    return float(scale.labels.index(wording.brief(value))) if scale.labels else float(value)


def in_lines(text: str, end: str = "\n") -> str:
    """Break a long label after underscores, commas, dots and spaces."""
    lines = [""]
    for char in text:
        if len(lines[-1]) >= _LINE_CHARS and lines[-1][-1] in "_, .-/":
            lines.append("")
        lines[-1] += char
    return end.join(lines)

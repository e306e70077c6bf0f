"""Views of a sweep as figures of matplotlib's, all with one look: the page's colours, plain numbers."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.printable import printable
from kerasweep.jobs.trial import TrialState
from kerasweep.scheduler.show.scales import AxisScale, plain
from kerasweep.scheduler.show.scene import (
    BLUE,
    COLOURS,
    GREEN,
    INK,
    LINE,
    QUIET,
    RED,
    Scene,
    across,
    drawn,
    in_lines,
)

if TYPE_CHECKING:
    from kerasweep.jobs.store.models import TrialRecord

THEME: Mapping[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": QUIET,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # what stands between dollar signs is no formula
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}
_WIDTH, _HEIGHT, _ROW, _COLUMN = 9.0, 5.0, 2.9, 2.0
#: Ticks of an axis, the ratio from which only powers of ten are marked, and a slice's room for labels.
_MOST_TICKS, _WIDE, _LINE_ROOM = 8, 60.0, 44
#: The room around each slice, in inches.
_GAP = 0.1


class Pictures:
    """Draws the views of one sweep.

    Args:
        scene: what they show, its texts printable.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        # Views that are joined into one picture are equally wide.
        self._width = max(_WIDTH, _COLUMN * (len(scene.names) + 1), _ROW * min(4, len(scene.names)))

    def draw(self, view: str) -> Any:
        """Return a view as a figure; within a context of THEME."""
        figure: Any = drawn(self, view)
        _pyplot().close(figure)
        return figure

    def _figure(self, view: str, rows: int = 1, columns: int = 1, **given: Any) -> tuple[Any, list[Any]]:
        figure, axes = _pyplot().subplots(rows, columns, squeeze=False, **given)
        figure.suptitle(self._scene.title(view), x=0.01, ha="left", weight="bold", size=13)
        return figure, list(axes.flat)

    def history(self) -> Any:
        """Draw the value of each trial, and the best so far."""
        figure, [axis] = self._figure("history", figsize=(self._width, _HEIGHT))
        self._scatter(axis, lambda one: float(one.number))
        self._spread(axis)
        steps = self._scene.best_so_far()
        axis.step(*steps, where="post", color=GREEN, linewidth=1.8, label="best so far", zorder=2)
        failed = self._scene.failed
        if failed:
            foot = axis.get_xaxis_transform()
            axis.plot(
                failed, [0.01] * len(failed), "x", color=RED, transform=foot, label="failed", clip_on=False
            )
        self._set_values(axis)
        axis.set_xlabel(self._scene.what)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)
        return figure

    def slices(self) -> Any:
        """Draw the value by each parameter."""
        names = self._scene.names
        columns = min(4, max(1, len(names)))
        rows = max(1, math.ceil(len(names) / columns))
        size = (self._width, 1.2 + _ROW * rows)
        figure, axes = self._figure("slice", rows, columns, figsize=size, sharey=True)
        figure.get_layout_engine().set(w_pad=_GAP)  # labels of neighbours stay apart
        for axis, (name, title) in zip(axes, names.items(), strict=False):
            scale = self._scene.scale(name)
            self._scatter(axis, partial(across, name=name, scale=scale))
            self._set_values(axis)
            _set_axis(axis.xaxis, scale)
            axis.set_title(title, size=10)
        for axis in axes[len(names) :]:
            axis.remove()
        handles, labels = axes[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower left", ncols=3)
        for axis in axes[1 : len(names)]:
            axis.set_ylabel("" if axes.index(axis) % columns else self._scene.metric)
        return figure

    def _scatter(self, axis: Any, across: Callable[[TrialRecord], float | None]) -> None:
        """Draw a mark for each trial: filled where it completed, an open square where it was stopped."""
        for state, style in (
            (TrialState.COMPLETED, {"marker": "o", "facecolor": BLUE, "alpha": 0.75}),
            (TrialState.STOPPED, {"marker": "s", "facecolor": "white"}),
        ):
            some = [(across(one), one.value) for one in self._scene.counted if one.state is state]
            known = [pair for pair in some if pair[0] is not None]
            if known:
                x, y = zip(*known, strict=True)
                axis.scatter(x, y, s=28, edgecolor=BLUE, label=str(state), zorder=3, **style)

    def _spread(self, axis: Any) -> None:
        """Draw the trials of each variant as dashes, and a line from the lowest to the highest."""
        found = self._scene.spread()
        if not found:
            return
        lows, highs = [min(values) for values in found.values()], [max(values) for values in found.values()]
        axis.vlines(list(found), lows, highs, color=BLUE, linewidth=1, alpha=0.6, zorder=2)
        at = [(number, value) for number, values in found.items() for value in values]
        axis.scatter(*zip(*at, strict=True), marker="_", s=40, color=BLUE, label="under each seed", zorder=2)

    def _set_values(self, axis: Any) -> None:
        axis.set_yscale("log" if self._scene.up.log else "linear")
        axis.set_ylabel(self._scene.metric)
        plain_numbers(axis.yaxis, log=self._scene.up.log)

    def parallel(self) -> Any:
        """Draw a line for each trial through its parameters and its value."""
        scene = self._scene
        titles = {**scene.names, "": scene.metric}
        figure, [axis] = self._figure("parallel", figsize=(self._width, _HEIGHT))
        shown = scene.complete
        scales = [*map(scene.scale, scene.names), scene.up]
        for one in shown:
            given = [*(one.params[name] for name in scene.names), one.value]
            heights = [scale.at(value) for scale, value in zip(scales, given, strict=True)]
            best = one.number == scene.best.number
            style = {"color": GREEN, "linewidth": 3.0, "zorder": 4} if best else {"color": BLUE, "alpha": 0.6}
            axis.plot(heights, linestyle="--" if one.state is TrialState.STOPPED else "-", **style)
        halo = importlib.import_module("matplotlib.patheffects").withStroke(linewidth=5, foreground="white")
        for place, scale in enumerate(scales):
            axis.axvline(place, color=QUIET, linewidth=1, zorder=2)
            last = place == len(scales) - 1
            for at, label in _some(scale.ticks()):
                side: dict[str, Any] = {"xytext": (-5, 0), "ha": "right"} if last else {"xytext": (5, 0)}
                side |= {"textcoords": "offset points", "va": "center", "size": 9, "zorder": 6}
                text = axis.annotate(in_lines(printable(label)), (place, at), **side)
                text.set_path_effects([halo])
        axis.set_xticks(range(len(titles)), list(titles.values()), weight="bold", color=INK)
        axis.set_yticks([])
        axis.spines[["left", "bottom"]].set_visible(False)
        axis.grid(visible=False)
        stopped = "; dashed: stopped" if any(one.state is TrialState.STOPPED for one in shown) else ""
        axis.set_xlabel(f"thick: the best {scene.what}, {scene.best.number}{stopped}", loc="left")
        return figure

    def importances(self) -> Any:
        """Draw each parameter's share in explaining the value."""
        shares = self._scene.shares()
        size = (self._width, 1.3 + 0.45 * max(2, len(shares)))
        figure, [axis] = self._figure("importances", figsize=size)
        names = sorted(shares, key=lambda name: shares[name])
        bars = axis.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
        axis.bar_label(bars, [f"{shares[name]:.2f}" for name in names], padding=4)
        axis.set_xlabel("share of what the parameters explain (PED-ANOVA)")
        if not names:
            axis.annotate(
                "too few trials have different values", (0.5, 0.5), xycoords="axes fraction", ha="center"
            )
            axis.set_yticks([])
        axis.set_xlim(0, 1.08 * max(shares.values(), default=1.0) or 1.0)
        axis.grid(axis="y", visible=False)
        return figure


def _set_axis(axis: Any, scale: AxisScale) -> None:
    if scale.labels:
        labels = [in_lines(printable(label)) for label in scale.labels]
        axis.set_ticks(range(len(labels)), labels)
        axis.axes.set_xlim(-0.5, len(labels) - 0.5)
        longest = max(len(line) for label in labels for line in label.split("\n"))
        if longest * len(labels) > _LINE_ROOM:
            for label in axis.get_ticklabels():
                label.set(rotation=30, horizontalalignment="right", rotation_mode="anchor")
        return
    axis.axes.set_xscale("log" if scale.log else "linear")
    plain_numbers(axis, log=scale.log)
    if len(scale.ticks()) == len(scale.choices):
        axis.set_major_locator(_ticker().FixedLocator(scale.choices))
    elif scale.whole and not scale.log:
        axis.get_major_locator().set_params(integer=True)
    for label in axis.get_ticklabels():
        label.set(rotation=30, horizontalalignment="right", rotation_mode="anchor")


def plain_numbers(axis: Any, *, log: bool = False) -> None:
    """Let an axis tell 4, 6, 10 where matplotlib would write powers of ten."""
    ticker = _ticker()
    if log:
        low, high = axis.get_view_interval()
        wide = low > 0 and high / low > _WIDE
        axis.set_major_locator(
            ticker.LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=_MOST_TICKS)
        )
        axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: plain(value)))


def _some(ticks: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
    """Return at most so many ticks that they can be read, the first and the last among them."""
    if len(ticks) <= 2 * _MOST_TICKS:
        return ticks
    return [ticks[round(n * (len(ticks) - 1) / (2 * _MOST_TICKS - 1))] for n in range(2 * _MOST_TICKS)]


def _ticker() -> Any:
    return importlib.import_module("matplotlib.ticker")


def _pyplot() -> Any:
    importlib.import_module("matplotlib").use("Agg")
    return importlib.import_module("matplotlib.pyplot")

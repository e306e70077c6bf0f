"""Two sweeps as a picture: the best value so far over the time of training, and over trained epochs."""

from __future__ import annotations

import importlib
import textwrap
from typing import TYPE_CHECKING, Any

from kerasweep.jobs.printable import printable
from kerasweep.scheduler.show.pictures import plain_numbers
from kerasweep.scheduler.show.scales import AxisScale
from kerasweep.scheduler.show.scene import BLUE, RED

if TYPE_CHECKING:
    from kerasweep.scheduler.evidence.comparison import Comparison, Side

#: What the best value is drawn over, and the axis' title.
AXES = {"elapsed_s": "seconds of training", "epochs": "epochs of all trials that have ended"}
_WIDTH, _HEIGHT = 9.0, 8.0


def race_of(side: Side, axis: str) -> tuple[list[float], list[float]]:
    """Return a sweep's best values so far, and where on an axis they were found, to the end of the sweep."""
    x = [float(getattr(one, axis)) for one in side.curve] + [float(getattr(side, axis))]
    return x, [one.value for one in side.curve] + [side.curve[-1].value]


def draw_race(shown: Comparison) -> Any:
    """Return two sweeps as a figure of matplotlib's; within a context of THEME."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(len(AXES), 1, figsize=(_WIDTH, _HEIGHT))
    scale = AxisScale.of([one.value for side in shown.sweeps for one in side.curve])
    for axis, (name, title) in zip(axes, AXES.items(), strict=True):
        for side, colour, style in zip(shown.sweeps, (BLUE, RED), ("-", "--"), strict=True):
            x, y = race_of(side, name)
            axis.step(x, y, where="post", color=colour, linestyle=style, linewidth=1.8, label=_label(side))
            axis.plot(x[:-1], y[:-1], "o", color=colour, markersize=4)
        axis.set_yscale("log" if scale.log else "linear")
        plain_numbers(axis.yaxis, log=scale.log)
        plain_numbers(axis.xaxis)
        axis.set_xlim(left=0)
        axis.set_xlabel(title)
        axis.set_ylabel(printable(side.metric))
    axes[0].legend()
    goal = "lower" if shown.sweeps[0].goal == "minimize" else "higher"
    told = f"best {printable(shown.sweeps[0].metric)} so far (the {goal} the better)"
    figure.suptitle(textwrap.fill(told, 95), x=0.01, ha="left", weight="bold", size=13)
    pyplot.close(figure)
    return figure


def _label(side: Side) -> str:
    return f"{printable(side.name)} ({side.sweep})"

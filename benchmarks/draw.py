"""Draws the benchmarks' results as the README's figure.

python benchmarks/draw.py [--results benchmarks/results] [--out docs/benchmarks.svg]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
_TITLES = {
    "mlp": "MLP 784-100-50-10",
    "cnn": "two-output CNN",
    "wide_and_deep": "wide and deep",
}
_NAMES = {
    "ray": "Ray Tune, two at once",
    "keras_tuner": "KerasTuner",
    "optuna": "Optuna",
    "loop": "a loop over fit",
    "kerasweep cold": "kerasweep, cold",
    "kerasweep warm": "kerasweep, worker up",
    "kerasweep compiled": "kerasweep, compiled before",
}
_OURS, _THEIRS, _INK = "#d0342c", "#9aa5b1", "#8a8a8a"


def main() -> None:
    """Draw the measurements."""
    flags = _flags()
    found = [(job, flags.results / f"{job}.json") for job in _TITLES]
    results = {job: json.loads(path.read_text()) for job, path in found if path.exists()}
    plt.rcParams.update(
        {"svg.hashsalt": "kerasweep", "font.size": 9, "text.color": _INK, "axes.labelcolor": _INK}
    )
    figure, axes = plt.subplots(1, len(results), figsize=(4.2 * len(results), 2.9), layout="constrained")
    for axis, (job, result) in zip([axes] if len(results) == 1 else axes, results.items(), strict=True):
        _draw(axis, f"{_TITLES[job]}, {result['trials']} trials", result["seconds"])
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(flags.out, transparent=True, metadata={"Date": None})


def _draw(axis: Any, title: str, seconds: dict[str, dict[str, Any]]) -> None:
    """Draw a bar for each variant: the median, with minimum and maximum."""
    ways = [way for way in reversed(_NAMES) if way in seconds]
    medians = [seconds[way]["median"] for way in ways]
    spread = [
        [median - min(seconds[way]["all"]) for way, median in zip(ways, medians, strict=True)],
        [max(seconds[way]["all"]) - median for way, median in zip(ways, medians, strict=True)],
    ]
    colours = [_OURS if way.startswith("kerasweep") else _THEIRS for way in ways]
    axis.barh([_NAMES[way] for way in ways], medians, xerr=spread, color=colours, ecolor=_INK, capsize=2)
    for place, median in enumerate(medians):
        axis.annotate(
            f"{median:.1f} s",
            (median + spread[1][place], place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axis.set_title(title, fontsize=10, color=_INK)
    axis.set_xlim(0, max(medians) * 1.3)
    axis.tick_params(colors=_INK, length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_xticks([])


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "benchmarks.svg")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Curves for the page's charts, thinned to what a screen can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from kerasweep.jobs.store.models import EpochRecord
from kerasweep.jobs.trial import COUNTED
from kerasweep.jobs.variants import Variant
from kerasweep.scheduler.client.objects import Trial
from kerasweep.scheduler.client.sweep import Sweep
from kerasweep.scheduler.web.shelf import Shelf

#: A curve has at most twice this many points: the lowest and the highest of each interval are kept.
_STRETCHES = 200


def sweep_curves(shelf: Shelf, sweep: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the metric's curve of each trial.

    Args:
        shelf: reads and caches the epochs.
        sweep: the sweep.
        trials: its trials to show, in order.
    """
    metric = sweep.spec.metric.name
    series = [
        {**_line(epochs_of(shelf, sweep, trial), metric), "label": f"#{trial.number}", "state": trial.state}
        for trial in trials
    ]
    return {"metric": metric, "x": "epoch", "series": series}


def variant_curves(
    shelf: Shelf, sweep: Sweep, variants: Sequence[Variant], trials: Sequence[Trial], best: int
) -> dict[str, Any]:
    """Return the metric's mean over each variant's trials, as far as all of those have been trained.

    Args:
        shelf: reads and caches the epochs.
        sweep: the sweep.
        variants: its variants to show, in order; those without any epoch are left out.
        trials: its trials, by number.
        best: how many are shown.
    """
    metric = sweep.spec.metric.name
    begun = [
        (one, [trials[n] for n in one.trials if trials[n].epochs and _counts(trials[n])]) for one in variants
    ]
    series = [
        {
            "label": f"variant {one.number}",
            "state": one.state,
            "points": thin(_mean([points_of(epochs_of(shelf, sweep, trial), metric) for trial in some])),
        }
        for one, some in [pair for pair in begun if pair[1]][:best]
    ]
    return {"metric": metric, "x": "epoch", "series": series}


def _counts(trial: Trial) -> bool:
    return not trial.state.final or trial.state in COUNTED


def _mean(curves: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Return the mean at each epoch that all curves have."""
    values = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*map(set, values)))
    return [(epoch, fmean(one[epoch] for one in values)) for epoch in shared]


def trial_curves(shelf: Shelf, sweep: Sweep, trial: Trial) -> dict[str, Any]:
    """Return a trial's metrics, related ones in one panel."""
    from kerasweep.scheduler.show.curves import pair_up

    epochs = epochs_of(shelf, sweep, trial)
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.metrics))
    panels = [
        {
            "metric": panel[0],
            "x": "epoch",
            "series": [
                {"label": name, "state": "", "points": thin(points_of(epochs, name))} for name in panel
            ],
        }
        for panel in pair_up(names)
    ]
    return {"panels": panels, "best_epoch": trial.best_epoch}


def _line(epochs: Sequence[EpochRecord], name: str) -> dict[str, Any]:
    return {"label": name, "state": "", "points": thin(points_of(epochs, name))}


def epochs_of(shelf: Shelf, sweep: Sweep, trial: Trial) -> list[EpochRecord]:
    """Return the epochs of a trial; those of a trial that is not running are read once."""
    what = ("epochs", trial.number, trial.attempts, trial.epochs, trial.state)
    key = sweep.id if not trial.state.final else f"{sweep.id}/ended"
    found = shelf.kept(key, what, lambda: sweep.client.records.epochs(sweep.id, trial.number))
    # Epochs that an earlier attempt trained after its last checkpoint are trained again.
    return [one for one in found.get(trial.number, []) if one.epoch <= trial.epochs]


def points_of(epochs: Sequence[EpochRecord], metric: str) -> list[tuple[int, float]]:
    """Return (epoch, value) wherever the metric is finite."""
    pairs = [(one.epoch, float(one.metrics[metric])) for one in epochs if metric in one.metrics]
    return [pair for pair in pairs if math.isfinite(pair[1])]


def thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most 400 points that look the same: the extremes of each interval are kept."""
    if len(points) <= 2 * _STRETCHES:
        return list(points)
    kept: list[tuple[int, float]] = []
    for index in range(_STRETCHES):
        stretch = points[index * len(points) // _STRETCHES : (index + 1) * len(points) // _STRETCHES]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return [points[0], *kept[1:-1], points[-1]]

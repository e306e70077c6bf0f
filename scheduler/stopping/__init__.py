"""Rules that end trials early, behind one small protocol: curves in, decisions to continue or stop out."""

from __future__ import annotations

from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.scheduler.stopping.halving import HalvingRule
from kerasweep.scheduler.stopping.median import MedianRule
from kerasweep.scheduler.stopping.patience import Restraint
from kerasweep.scheduler.stopping.ruling import Ruling, StoppingRule, Track

__all__ = ["Track", "Ruling", "StoppingRule", "Restraint", "rule_for", "patience_for"]


def rule_for(spec: SweepSpec) -> StoppingRule | None:
    """Return the rule named in a sweep file, None if every trial trains to its end."""
    maximize = spec.metric.goal == "maximize"
    if spec.stopping is None:
        return None
    if spec.stopping.halving is not None:
        return HalvingRule(spec.stopping.halving, spec.most_epochs(), maximize)
    if spec.stopping.median is not None:
        return MedianRule(spec.stopping.median, spec.most_epochs(), maximize)
    return None


def patience_for(spec: SweepSpec, rule: StoppingRule | None) -> Restraint:
    """Return the object that says how many trials may start, and whether the sweep's patience is used up."""
    patience = spec.stopping.patience if spec.stopping is not None else None
    return Restraint(rule, patience, spec.metric.goal == "maximize")

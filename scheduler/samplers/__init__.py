"""Search methods, behind one small protocol: they see trials, give suggestions, and never see the store."""

from __future__ import annotations

from kerasweep.jobs.sweepfile.spec import SweepSpec, TpeMethod
from kerasweep.scheduler.samplers.grid import GridSampler
from kerasweep.scheduler.samplers.protocol import Observation, Sampler, Suggestion
from kerasweep.scheduler.samplers.random import RandomSampler
from kerasweep.scheduler.samplers.tpe import TpeSampler

__all__ = ["Observation", "Sampler", "Suggestion", "sampler_for"]


def sampler_for(spec: SweepSpec) -> Sampler:
    """Return the search method that a sweep file names."""
    space = spec.space()
    if isinstance(spec.method, TpeMethod):
        return TpeSampler(
            space, spec.seed, spec.metric.goal, spec.method.startup_trials, spec.method.parallel
        )
    if spec.method.name == "grid":
        return GridSampler(space, spec.seed, spec.budget.max_trials)
    return RandomSampler(space, spec.seed)

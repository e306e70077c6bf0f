"""Search methods behind one small protocol: they see trials, return suggestions, and never see the store."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Literal

from kerasweep.jobs.sweepfile.method import AutoMethod, CmaesMethod, GpMethod, TpeMethod, is_ordered
from kerasweep.jobs.sweepfile.spec import SweepSpec
from kerasweep.scheduler.samplers.evolution import CmaesSampler, size_of_generation
from kerasweep.scheduler.samplers.grid import GridSampler
from kerasweep.scheduler.samplers.guided import GuidedSampler
from kerasweep.scheduler.samplers.protocol import Observation, Sampler, Suggestion
from kerasweep.scheduler.samplers.qmc import QmcSampler
from kerasweep.scheduler.samplers.random import RandomSampler
from kerasweep.scheduler.samplers.requirements import model_of

__all__ = [
    "Observation",
    "Sampler",
    "Suggestion",
    "sampler_for",
    "settled",
    "learns",
    "packages_of",
    "VERSION",
]

#: Raised when one of our methods would propose other points for the same results; it is recorded with them.
#: 2: models learn from at most 100 results, 25 of them the best.
VERSION = 2
#: The limits of dimensions and trials up to which a space counts as small for a Gaussian process.
_GP_DIMENSIONS, _GP_TRIALS = 6, 150


def sampler_for(spec: SweepSpec) -> Sampler:
    """Return the search method named in a sweep file."""
    space, method, maximize = spec.space(), spec.method, spec.metric.goal == "maximize"
    if isinstance(method, TpeMethod):
        return GuidedSampler(space, spec.seed, maximize, "tpe", method.startup_trials, method.parallel)
    if isinstance(method, GpMethod):
        startup = method.startup_trials
        return GuidedSampler(space, spec.seed, maximize, "gp", startup, method.parallel, sobol=True)
    if isinstance(method, AutoMethod):
        then = method.then or "tpe"
        return GuidedSampler(space, spec.seed, maximize, then, _unguided(spec), method.parallel, sobol=True)
    if isinstance(method, CmaesMethod):
        return CmaesSampler(space, spec.seed, maximize, method.generation)
    if method.name == "grid":
        most = spec.budget.max_trials
        return GridSampler(space, spec.seed, None if most is None else most // spec.times)
    return QmcSampler(space, spec.seed) if method.name == "qmc" else RandomSampler(space, spec.seed)


def settled(spec: SweepSpec) -> SweepSpec:
    """Return a sweep whose method leaves nothing open, as it is recorded.

    Method `auto` is Sobol points for the first quarter of the trials, at least 10 and at most 50, then a
    Gaussian process if one is installed, the space has at most 6 parameters, all numeric and unconditional,
    and the budget is at most 150 trials; else TPE.
    """
    method = spec.method
    if not isinstance(method, AutoMethod) or method.then is not None:
        return spec
    varied = spec.space().varied
    small = len(varied) <= _GP_DIMENSIONS and spec.planned_variants() <= _GP_TRIALS
    numeric = all(
        is_ordered(dimension) and not dimension.when for dimension in spec.space().dimensions.values()
    )
    then: Literal["tpe", "gp"] = "gp" if small and numeric and find_spec("torch") else "tpe"
    return spec.model_copy(update={"method": method.model_copy(update={"then": then})})


def learns(spec: SweepSpec, number: int, learned: int) -> bool:
    """Tell whether a method that learns draws a variant from results, given how many of the first it sees."""
    method = spec.method
    if isinstance(method, CmaesMethod):
        return learned >= size_of_generation(spec.space(), method.generation)
    if isinstance(method, TpeMethod | GpMethod):
        return learned > 0 and number >= method.startup_trials
    return isinstance(method, AutoMethod) and learned > 0 and number >= _unguided(spec)


def packages_of(spec: SweepSpec) -> tuple[str, ...]:
    """Return the packages whose versions affect the suggestions of a sweep's method."""
    model = model_of(spec)
    extra = {"tpe": ("optuna",), "gp": ("optuna", "torch"), "cmaes": ("cmaes",)}.get(model, ())
    sobol = ("scipy",) if spec.method.name in ("qmc", "gp", "auto") else ()
    return ("numpy", *sobol, *extra)


def _unguided(spec: SweepSpec) -> int:
    return min(50, max(10, math.ceil(spec.planned_variants() / 4)))

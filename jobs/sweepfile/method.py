"""The `method:` of a sweep file: how points are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from kerasweep.jobs.sweepfile import synonyms
from kerasweep.jobs.sweepfile.block import Block, Count, Natural
from kerasweep.jobs.sweepfile.dimension import Choice, Dimension
from kerasweep.jobs.sweepfile.rules import RuleError, nearest, show


class GridMethod(Block):
    """Every combination, in file order; under a smaller budget, a selection spread over the whole grid."""

    name: Literal["grid"]


class RandomMethod(Block):
    """Independent draws, without repetition if the space is finite."""

    name: Literal["random"]


class QmcMethod(Block):
    """Draws that cover the space more evenly than random ones: a scrambled Sobol sequence.

    Sobol (1967); Owen, Scrambling Sobol' and Niederreiter-Xing Points (1998).
    """

    name: Literal["qmc"]


class TpeMethod(Block):
    """Draws guided by the results so far.

    Bergstra et al., Algorithms for Hyper-Parameter Optimization (2011).
    """

    name: Literal["tpe"]
    startup_trials: Natural = Field(default=10, description="Random trials before the first guided one")
    parallel: Count = Field(default=4, description="Trials that may be undecided at once")


class CmaesMethod(Block):
    """Generations from a normal distribution that moves towards the best of them; numbers only.

    Hansen and Ostermeier, Completely Derandomized Self-Adaptation in Evolution Strategies (2001).
    """

    name: Literal["cmaes"]
    generation: Annotated[Count, Field(ge=4)] | None = Field(  # CMA-ES divides by zero with fewer
        default=None, description="Trials of a generation; by default 4 + 3 ln(parameters), 8 at least"
    )


class GpMethod(Block):
    """Draws where a Gaussian process expects the most improvement; for few trials of long training.

    Snoek et al., Practical Bayesian Optimization of Machine Learning Algorithms (2012).
    """

    name: Literal["gp"]
    startup_trials: Natural = Field(default=10, description="Sobol points before the first guided one")
    parallel: Count = Field(default=4, description="Trials that may be undecided at once")


class AutoMethod(Block):
    """Sobol points first, then TPE, or a Gaussian process if the space is small and purely numeric."""

    name: Literal["auto"]
    parallel: Count = Field(default=4, description="Trials that may be undecided at once")
    then: Literal["tpe", "gp"] | None = Field(
        default=None, description="What follows the Sobol points; chosen once, when the sweep is submitted"
    )


METHODS = ("grid", "random", "qmc", "tpe", "cmaes", "gp", "auto")
#: Those that draw points from results.
LEARNING = ("tpe", "gp", "cmaes", "auto")


def _take_word(raw: Any) -> Any:
    method = {"name": raw} if isinstance(raw, str) else raw
    if isinstance(method, Mapping) and "name" in method and method["name"] not in METHODS:
        remedy = synonyms.METHODS.get(str(method["name"])) or nearest(method["name"], METHODS)
        raise RuleError(f"unknown method {show(method['name'])}", remedy)
    if not isinstance(method, Block) and not (isinstance(method, Mapping) and "name" in method):
        raise RuleError(f"must name a method, got {show(method)}", f"write one of {', '.join(METHODS)}")
    return method


Method = Annotated[
    Annotated[
        GridMethod | RandomMethod | QmcMethod | TpeMethod | CmaesMethod | GpMethod | AutoMethod,
        Field(discriminator="name"),
    ],
    BeforeValidator(_take_word),
]


def check_method(name: str, dimensions: Mapping[str, Dimension]) -> None:
    """Check that a method can search a space.

    Raises:
        RuleError: it cannot; the remedy names one that can.
    """
    if name not in ("cmaes", "gp"):
        return
    for param, dimension in dimensions.items():
        if dimension.when:
            rule = f"method '{name}' needs parameters that exist in every trial, got '{param}' with `when`"
            raise RuleError(rule, "use method tpe, which supports conditional ones", (param, "when"))
        if name == "cmaes" and not is_ordered(dimension):
            rule = f"method 'cmaes' needs parameters that are numbers in order, got '{param}'"
            raise RuleError(rule, "use method tpe, or list the values as increasing numbers", (param,))


def is_ordered(dimension: Dimension) -> bool:
    """Tell whether a dimension's values are numbers in increasing order."""
    if not isinstance(dimension, Choice):
        return True
    values = dimension.values
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) and numbers == sorted(numbers)

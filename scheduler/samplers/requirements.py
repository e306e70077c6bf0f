"""The packages that some search methods need beyond kerasweep's own."""

from __future__ import annotations

from importlib.util import find_spec

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.sweepfile.method import AutoMethod
from kerasweep.jobs.sweepfile.spec import SweepSpec

#: The package by method; kerasweep's extra of the method's name brings it.
PACKAGE_OF = {"gp": "torch", "cmaes": "cmaes"}


def model_of(spec: SweepSpec) -> str:
    """Return the method that chooses points once there are results: for `auto`, the one that follows."""
    method = spec.method
    return method.then or "tpe" if isinstance(method, AutoMethod) else method.name


def lacking(spec: SweepSpec) -> str | None:
    """Return the method of a sweep whose package is not installed here, if that is so."""
    method = model_of(spec)
    package = PACKAGE_OF.get(method)
    return method if package is not None and find_spec(package) is None else None


def expect_packages(spec: SweepSpec) -> None:
    """Check that the packages which a sweep's method needs are installed here.

    Raises:
        InputError: one is not.
    """
    method = lacking(spec)
    if method is not None:
        raise missing(method, "here")


def missing(method: str, where: str = "where the scheduler runs") -> InputError:
    """Return the error for a method whose package is not installed."""
    return InputError(
        f"method {method!r} needs the package {PACKAGE_OF[method]}, which is not installed {where}\n"
        f"pip install 'kerasweep[{method}]', or use method tpe"
    )

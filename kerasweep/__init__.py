"""Hyperparameter sweeps of Keras training on a Celery task queue.

    from kerasweep import Client

    sweep = Client().submit("sweep.yaml")
    sweep.wait()
    model = sweep.load_model()

Everything is imported on first use: `import kerasweep` loads neither TensorFlow nor Optuna.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasweep.jobs.errors import (
        Damaged as Damaged,
    )
    from kerasweep.jobs.errors import (
        DestinationError as DestinationError,
    )
    from kerasweep.jobs.errors import (
        Halted as Halted,
    )
    from kerasweep.jobs.errors import (
        IllegalMove as IllegalMove,
    )
    from kerasweep.jobs.errors import (
        InputError as InputError,
    )
    from kerasweep.jobs.errors import (
        JobError as JobError,
    )
    from kerasweep.jobs.errors import (
        KerasweepError as KerasweepError,
    )
    from kerasweep.jobs.errors import (
        NoResult as NoResult,
    )
    from kerasweep.jobs.errors import (
        NotFound as NotFound,
    )
    from kerasweep.jobs.errors import (
        OutOfReach as OutOfReach,
    )
    from kerasweep.jobs.errors import (
        ProgramError as ProgramError,
    )
    from kerasweep.jobs.errors import (
        SpecError as SpecError,
    )
    from kerasweep.jobs.errors import (
        StaleAttempt as StaleAttempt,
    )
    from kerasweep.scheduler.client.client import Client as Client

    __version__: str

_ERRORS = (
    "KerasweepError",
    "InputError",
    "SpecError",
    "ProgramError",
    "NotFound",
    "DestinationError",
    "OutOfReach",
    "NoResult",
    "Halted",
    "StaleAttempt",
    "IllegalMove",
    "Damaged",
    "JobError",
)

__all__ = ["Client", "__version__", *_ERRORS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("kerasweep")
    if name == "Client":
        return import_module("kerasweep.scheduler.client.client").Client
    if name in _ERRORS:
        return getattr(import_module("kerasweep.jobs.errors"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""What travels through Redis: task names, queue names and message bodies.

A hint names a trial and carries nothing else that a worker acts on, so whoever reaches Redis alone can
neither run code nor change a result. What a person should read in Flower goes into the task's
`kwargsrepr`, which workers ignore.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.trial import TrialKey

TRAIN = "kerasweep.train"
ADVANCE = "kerasweep.advance"
SCHEDULER_QUEUE = "scheduler"

_SWEEP_ID = re.compile(r"[a-z0-9]{4,32}")
_HINT_ID = re.compile(r"(?P<sweep>[a-z0-9]{4,32})\.(?P<trial>[0-9]{1,10})\.[0-9]{1,10}\.[0-9a-f]{8}")
_SHOWN_CHARS = 480


def train_queue(gpus: int) -> str:
    """Return the queue of trials that ask for `gpus` GPUs each."""
    return "train.cpu" if gpus == 0 else f"train.{gpus}gpu"


def new_sweep_id() -> str:
    """Return a fresh sweep id: ten lowercase hexadecimal digits."""
    return secrets.token_hex(5)


@dataclass(frozen=True)
class Hint:
    """Word that a trial may be ready, and what a person may read of it on the way.

    Args:
        key: the trial.
        attempt: the number that its next attempt will have.
        name: the sweep's name.
        gpus: how many GPUs the trial asks for.
        params: its parameters.
    """

    key: TrialKey
    attempt: int
    name: str
    gpus: int
    params: Mapping[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        """All that a worker acts on."""
        return {"sweep": self.key.sweep, "trial": self.key.trial}

    @property
    def shown(self) -> str:
        """What Flower shows: sweep, trial, attempt and parameters."""
        values = ", ".join(f"{short_name(param)}={value!r}" for param, value in self.params.items())
        text = (
            f"sweep={self.name} ({self.key.sweep}), trial={self.key.trial}, attempt={self.attempt}, {values}"
        )
        return text[:_SHOWN_CHARS]


def hint_id(hint: Hint) -> str:
    """Return a fresh Celery task id, from which the trial can be read back."""
    return f"{hint.key.sweep}.{hint.key.trial}.{hint.attempt}.{secrets.token_hex(4)}"


def trial_of_hint_id(task_id: str) -> TrialKey | None:
    """Return the trial of a hint's task id, or None where the id is of another kind."""
    found = _HINT_ID.fullmatch(task_id)
    return TrialKey(found["sweep"], int(found["trial"])) if found else None


def short_name(param: str) -> str:
    """Return a parameter's name without the `training.` before it."""
    return param.removeprefix("training.")


def read_hint(sweep: object, trial: object) -> TrialKey:
    """Check what came out of a queue that anyone may have written to.

    Raises:
        InputError: not the id of a sweep, or not a trial's number.
    """
    if not isinstance(sweep, str) or not _SWEEP_ID.fullmatch(sweep):
        raise InputError(
            f"a sweep id is 4 to 32 of a-z and 0-9, got {str(sweep)[:40]!r}; the hint is ignored"
        )
    if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial < 2**31:
        raise InputError(f"a trial is a number from 0, got {str(trial)[:40]!r}; the hint is ignored")
    return TrialKey(sweep, trial)


def encode_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Make metrics fit for JSON, which knows no NaN and no infinity."""
    numbers = {name: float(value) for name, value in metrics.items()}  # NumPy's numbers are not JSON's
    return {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}


def decode_metrics(metrics: Mapping[str, float | str]) -> dict[str, float]:
    """Read what `encode_metrics` wrote."""
    return {name: float(value) for name, value in metrics.items()}

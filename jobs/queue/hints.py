"""The messages in Redis: task names, queue names and message bodies.

A hint names a trial and carries nothing else that a worker acts on, so anyone with access to Redis alone can
neither run code nor change a result. What users should see in Flower goes into the task's `kwargsrepr`, which
workers ignore.
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
    """Return the queue for trials that ask for `gpus` GPUs each."""
    return "train.cpu" if gpus == 0 else f"train.{gpus}gpu"


def new_sweep_id() -> str:
    """Return a new sweep id: ten lowercase hexadecimal digits."""
    return secrets.token_hex(5)


@dataclass(frozen=True)
class Hint:
    """A message that a trial may be ready, with what Flower shows of it.

    Args:
        key: the trial.
        attempt: the number of its next attempt.
        name: the sweep's name.
        gpus: the number of GPUs that the trial asks for.
        params: its parameters.
        waited: whether it has waited at a rung: then it goes ahead of trials that have not, since the
            next cohort is drawn from its result.
    """

    key: TrialKey
    attempt: int
    name: str
    gpus: int
    params: Mapping[str, Any]
    waited: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """Everything that a worker acts on."""
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
    """Return a new Celery task id from which the trial can be read back."""
    return f"{hint.key.sweep}.{hint.key.trial}.{hint.attempt}.{secrets.token_hex(4)}"


def trial_of_hint_id(task_id: str) -> TrialKey | None:
    """Return the trial of a hint's task id, or None for other ids."""
    found = _HINT_ID.fullmatch(task_id)
    return TrialKey(found["sweep"], int(found["trial"])) if found else None


def short_name(param: str) -> str:
    """Return a parameter's name without the prefix `training.`."""
    return param.removeprefix("training.")


def read_hint(sweep: object, trial: object) -> TrialKey:
    """Validate the content of a hint, which anyone may have written.

    Raises:
        InputError: not a sweep id, or not a trial number.
    """
    if not isinstance(sweep, str) or not _SWEEP_ID.fullmatch(sweep):
        raise InputError(
            f"a sweep id is 4 to 32 of a-z and 0-9, got {str(sweep)[:40]!r}; the hint is ignored"
        )
    if isinstance(trial, bool) or not isinstance(trial, int) or not 0 <= trial < 2**31:
        raise InputError(f"a trial is a number from 0, got {str(trial)[:40]!r}; the hint is ignored")
    return TrialKey(sweep, trial)


def encode_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Encode metrics for JSON, which has no NaN and no infinity."""
    numbers = {name: float(value) for name, value in metrics.items()}  # NumPy numbers are not JSON
    return {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}


def decode_metrics(metrics: Mapping[str, float | str]) -> dict[str, float]:
    """Decode the output of `encode_metrics`."""
    return {name: float(value) for name, value in metrics.items()}

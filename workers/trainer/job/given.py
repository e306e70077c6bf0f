"""The arguments of a job's functions: values, and `data`, `model` and `trial` if they name them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasweep.jobs.code.program import RESERVED, Program
from kerasweep.workers.trainer.assignment import Assignment
from kerasweep.workers.trainer.job.data import JobData, is_table


@dataclass(frozen=True)
class GivenTrial:
    """The argument `trial` of a job's functions.

    Args:
        sweep: the sweep's name.
        sweep_id: its id.
        number: the trial's, from 0.
        attempt: from 1.
        seed: the trial's, 31 bits.
        params: its values, by name.
        folder: its working folder, which is removed when the trial has ended.
    """

    sweep: str
    sweep_id: str
    number: int
    attempt: int
    seed: int
    params: Mapping[str, Any]
    folder: Path


def fresh(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of values; changes to it affect nobody else."""
    return {name: copy.deepcopy(value) for name, value in values.items()}


def opened(data: Any) -> Any:
    """Return data in new containers, and copies of tables; arrays stay shared, and read-only."""
    if isinstance(data, dict):
        return {name: opened(value) for name, value in data.items()}
    if type(data) in (list, tuple):
        return type(data)(map(opened, data))
    return data.copy() if is_table(data) else data


def is_plain(data: Any) -> bool:
    """Tell whether trials can share data unnoticed: arrays, numbers, text, and containers of these."""
    if isinstance(data, Mapping):
        return all(is_plain(value) for value in data.values())
    if isinstance(data, (list, tuple, set, frozenset)):
        return all(map(is_plain, data))
    return data is None or isinstance(data, (bool, int, float, complex, str, bytes, np.generic, np.ndarray))


class Arguments:
    """The keyword arguments of a job's functions.

    Args:
        program: what the functions take.
        order: the trial.
        folder: its working folder.
        data: the result of `load_data`; None before the call.
    """

    def __init__(self, program: Program, order: Assignment, folder: Path, data: JobData | None) -> None:
        self._program = program
        self._order = order
        self._folder = folder
        self._data = data

    def of(self, function: str, model: keras.Model | None = None) -> dict[str, Any]:
        """Return a function's arguments, each a separate copy; `model` is for `callbacks`."""
        signature = self._program.functions.get(function)
        if signature is None:
            return {}
        found = fresh(self._program.route(self._order.job_params).get(function, {}))
        ours = RESERVED[function]
        if "trial" in ours and signature.names("trial"):
            found["trial"] = self._trial()
        if "data" in ours and signature.names("data") and self._data is not None:
            found["data"] = opened(self._data.given)
        if "model" in ours and signature.names("model"):
            found["model"] = model
        return found

    def _trial(self) -> GivenTrial:
        order = self._order
        params = fresh(order.params)
        return GivenTrial(
            order.name, order.sweep, order.trial, order.attempt, order.seed, params, self._folder
        )

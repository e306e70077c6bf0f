"""Rebuilds a trial's model with its job, and loads the trial's weights into it.

For models that Keras cannot load from a file alone: without `get_config`, with layers whose `__init__` takes
no `**kwargs`, or without `call()`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras

from kerasweep.jobs.errors import InputError
from kerasweep.jobs.sweepfile.training import Training
from kerasweep.workers.models.answer import first_line
from kerasweep.workers.trainer.job.data import read_data
from kerasweep.workers.trainer.job.source import JobSource
from kerasweep.workers.trainer.state.building import build
from kerasweep.workers.trainer.state.checkpoint import build_optimizer


@dataclass(frozen=True)
class Recipe:
    """A trial's arguments to its job's functions.

    Args:
        params: the trial's values, without those under `training`.
        seed: the trial's seed.
        batch_size: rows per batch.
        trial: the content of the argument `trial`: `sweep`, `sweep_id`, `number`, `attempt`.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 32
    trial: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Parse it from JSON.

        Raises:
            ValueError: it is not a recipe.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or set(found) - set(cls.__dataclass_fields__):
            raise ValueError(f"a recipe must be a JSON object of {', '.join(cls.__dataclass_fields__)}")
        return cls(**found)

    def arguments(self, source: JobSource, function: str) -> dict[str, Any]:
        """Return a function's arguments."""
        program = source.program
        found = dict(program.route(self.params).get(function, {}))
        wanted = program.wanted(function)
        if "trial" in wanted:
            folder = Path(tempfile.gettempdir())
            found["trial"] = SimpleNamespace(
                **self.trial, seed=self.seed, params=dict(self.params), folder=folder
            )
        if "data" in wanted:
            found["data"] = source.call("load_data", self.arguments(source, "load_data"))
        return found


def rebuild(source: JobSource, recipe: Recipe, weights: Path) -> keras.Model:
    """Return the trial's model, compiled, with the weights of a `.weights.h5` or `.keras` file.

    Args:
        source: the job, loaded.
        recipe: the trial's arguments to it.
        weights: the file.

    Raises:
        InputError: the job does not build the model that the weights belong to.
    """
    try:
        keras.utils.set_random_seed(recipe.seed)
        model = source.call("build_model", recipe.arguments(source, "build_model"))
        if not model.built:
            data = read_data(source.call("load_data", recipe.arguments(source, "load_data")))
            build(model, data.train, data.validation, Training(epochs=1, batch_size=recipe.batch_size))
        build_optimizer(model)
        model.load_weights(weights)
    except Exception as exc:
        raise InputError(
            "the job must rebuild the trial's model to load its weights, got "
            f"{type(exc).__name__}: {first_line(exc)}\n"
            "If build_model depends on more than its arguments, make it depend on them alone"
        ) from exc
    found: keras.Model = model
    return found


def rebuild_alone(job: Path, recipe: str, weights: Path) -> keras.Model:
    """Return the trial's model in a process that has not loaded its job; `recipe` is JSON."""
    source = JobSource(job.resolve().parent, job.name)
    with keras.saving.custom_object_scope(source.custom_objects):
        return rebuild(source, Recipe.from_json(recipe), weights)

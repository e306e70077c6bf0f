"""What a job keeps in its modules: generators, variables and metrics created at import."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasweep.workers.trainer.state.values import StateReader, StateWriter

_KEPT = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    keras.random.SeedGenerator,
    keras.Variable,
    keras.Metric,
    tf.Variable,
)


def save_modules(modules: Mapping[str, ModuleType], writer: StateWriter) -> dict[str, dict[str, Any]]:
    """Return the state of top-level objects in a job's modules, by module and name."""
    return {
        name: {key: writer.value(value) for key, value in vars(module).items() if isinstance(value, _KEPT)}
        for name, module in modules.items()
    }


def restore_modules(
    modules: Mapping[str, ModuleType], saved: Mapping[str, Mapping[str, Any]], reader: StateReader
) -> None:
    """Read what `save_modules` saved into a new instance of the modules, to be assigned by `reader.apply`.

    Raises:
        ValueError, LookupError, TypeError: it belongs to other modules.
    """
    for name, state in saved.items():
        if name in modules:
            reader.attributes(modules[name], state)

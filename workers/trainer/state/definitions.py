"""Functions and classes that a state names, and objects of classes made anew from their names."""

from __future__ import annotations

import sys
from collections import UserString
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasweep.workers.trainer.job.source import is_job_class
from kerasweep.workers.trainer.state.holders import OF_PYTHON, container_of

#: Of which the variables are the state.
WITH_VARIABLES = (keras.Metric, keras.random.SeedGenerator, keras.Layer, keras.Optimizer, tf.Module)

_SEEDS = [keras.random.SeedGenerator.__module__, keras.random.SeedGenerator.__qualname__]


def place_of(value: Any) -> list[str] | None:
    """Return the module and name of a function or class of Keras, NumPy or the job; None where it has none.

    A callback may choose one during the training: `EarlyStopping` compares with `keras.ops.less`.
    """
    if isinstance(value, np.ufunc):
        place = ["numpy", value.__name__]
    else:
        place = [value.__module__, value.__qualname__]
    return place if _lookup(*place) is value else None


def definition_at(module: str, name: str) -> Any:
    """Return the function or class at a place.

    Raises:
        ValueError: there is none.
    """
    found = _lookup(module, name)
    if not isinstance(found, (FunctionType, np.ufunc, type)):
        raise ValueError(f"a callback's state names {module}.{name}, which is not there")
    return found


def job_class(module: str, name: str) -> Any:
    """Return a class of the job.

    Raises:
        ValueError: it has none of this name.
    """
    found = _lookup(module, name)
    if not isinstance(found, type) or not is_job_class(found):
        raise ValueError(f"a callback's state holds a {module}.{name}, which the job does not have")
    return found


def described(value: Any) -> dict[str, Any]:
    """Describe how an object can be created again where a new process does not have it yet."""
    if isinstance(value, keras.Metric) and not is_job_class(type(value)):
        return {"metric": keras.saving.serialize_keras_object(value)}
    return {"class": _name(type(value))}


def _name(kind: type) -> list[str]:
    return [kind.__module__, kind.__qualname__]


def made(inner: Mapping[str, Any]) -> Any:
    """Create an object as `described` says, without its state.

    Raises:
        ValueError: its class is not found in the job, or its variables depend on more than its class.
    """
    if "metric" in inner:
        return keras.saving.deserialize_keras_object(inner["metric"])
    if inner["class"] == _SEEDS:
        return keras.random.SeedGenerator(seed=0)
    found = _lookup(*inner["class"])
    if isinstance(found, type) and issubclass(found, WITH_VARIABLES):
        raise ValueError(
            f"a {found.__name__} was created during the training, which no checkpoint can repeat"
        )
    if (own := next((kind for kind in OF_PYTHON if _name(kind) == inner["class"]), None)) is not None:
        make: Any = own
        return make("") if own is UserString else make()
    found = job_class(*inner["class"])
    return (container_of(found) or object).__new__(found)


def variables_of(owner: Any) -> list[Any]:
    """Return the variables of an object; a model has those of its optimizer and metrics too."""
    if isinstance(owner, keras.random.SeedGenerator):
        return [owner.state]
    found = list(owner.variables)
    if isinstance(owner, keras.Model) and getattr(owner, "optimizer", None) is not None:
        found += owner.optimizer.variables
    return found


def _lookup(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if module.partition(".")[0] in ("keras", "numpy") or is_job_class(found) else None

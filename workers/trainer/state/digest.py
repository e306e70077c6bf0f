"""The digest of a trial's final variables: equal digests mean the same trial, bit for bit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

# An optimizer's slot is named after its variable's full path: `SGD/sequential_3_dense_7_kernel_momentum`.
_AUTO_NUMBER = re.compile(r"_\d+(?=[/_]|$)")


def plain_path(variable: keras.Variable) -> str:
    """Return a variable's path without Keras' process-wide counters.

    The tenth Dense of a process is `dense_9`; the number of earlier ones must not matter.
    """
    return _AUTO_NUMBER.sub("", str(variable.path))


def optimizers_of(model: keras.Model) -> list[Any]:
    """Return the model's optimizers: the compiled one, then those kept as attributes of the model."""
    found = [] if model.optimizer is None else [model.optimizer]
    for value in vars(model).values():
        if isinstance(value, keras.optimizers.Optimizer) and all(value is not one for one in found):
            found.append(value)
    return found


def variables_of(model: keras.Model) -> list[Any]:
    """Return every variable that training continues from: the model's, then the optimizers'."""
    found = list(model.variables)
    for optimizer in optimizers_of(model):
        found.extend(optimizer.variables)
    return found


def replicas_of(variable: Any) -> list[Any]:
    """Return the copies of a variable, one for each replica.

    They may differ: under MirroredStrategy each replica of a BatchNormalization keeps its own statistics, and
    reading the variable gives their mean.
    """
    # For a tf.Variable, such as Keras creates for loss weights, `value` is a method.
    value = variable if isinstance(variable, tf.Variable) else getattr(variable, "value", variable)
    return list(getattr(value, "values", None) or [value])


def digest(model: keras.Model, beyond: Sequence[NDArray[Any]] = ()) -> str:
    """Return the SHA-256, in hexadecimal, over path, dtype, shape and bytes of every variable, in order.

    Args:
        model: the trained model.
        beyond: the values of what its steps capture beyond its own variables.
    """
    total = hashlib.sha256()
    for variable in variables_of(model):
        for one in replicas_of(variable):
            array = one.numpy()
            total.update(f"{plain_path(variable)}|{array.dtype.name}|{array.shape}|".encode())
            total.update(array.tobytes())
    for number, array in enumerate(beyond):
        total.update(f"captured/{number}|{array.dtype.name}|{array.shape}|".encode())
        total.update(array.tobytes())
    return total.hexdigest()

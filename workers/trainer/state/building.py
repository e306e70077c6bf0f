"""Builds a model that learns its shapes from the data."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasweep.workers.trainer.job.data import Arrays, Part
from kerasweep.workers.trainer.state.captures import StepState
from kerasweep.workers.trainer.state.checkpoint import has_own_step


def build(model: keras.Model, train: Part, batch_size: int, validated: bool) -> None:
    """Create the variables of a model that is not built.

    Keras' own `train_step` calls the model; a custom one may do anything else, so it is traced as `fit`
    traces it. A model that runs eagerly cannot be traced: without a `call()` its first step builds it.

    Args:
        model: compiled.
        train: the training data.
        batch_size: rows of a batch, if the data are arrays.
        validated: whether there is validation data.

    Raises:
        Exception: whatever the model's code raises.
    """
    if model.run_eagerly or not has_own_step(model):
        with contextlib.suppress(*[NotImplementedError] if model.run_eagerly else []):
            model(_sample(train, batch_size))
        return
    StepState().trace(model, batch_spec(train, batch_size), validated, None)
    model.built = True  # if no call() told Keras so


def batch_spec(part: Part, batch_size: int) -> Any:
    """Return the input of a model's step, as `tf.TensorSpec`."""
    if isinstance(part, Arrays):
        rows = None if part.rows % batch_size and part.rows > batch_size else min(batch_size, part.rows)
        return _specs(part.packed(), rows)
    if isinstance(part.dataset, keras.utils.PyDataset):
        return _specs(part.dataset[0], None)
    return part.dataset.element_spec


def _specs(batch: Any, rows: int | None) -> Any:
    specs = keras.tree.map_structure(
        lambda array: tf.TensorSpec((rows, *np.shape(array)[1:]), np.asarray(array[:1]).dtype), batch
    )
    return keras.tree.lists_to_tuples(specs)


def _sample(train: Part, batch_size: int) -> Any:
    """Return the inputs of a first batch."""
    if isinstance(train, Arrays):
        return keras.tree.map_structure(lambda array: array[: min(batch_size, train.rows)], train.x)
    stream = train.dataset
    batch = stream[0] if isinstance(stream, keras.utils.PyDataset) else next(iter(stream))
    return keras.utils.unpack_x_y_sample_weight(batch)[0]

"""Builds a model that learns its shapes from the data."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasweep.jobs.sweepfile.training import Training
from kerasweep.workers.trainer.job.data import Arrays, Part
from kerasweep.workers.trainer.sequences import unchanged
from kerasweep.workers.trainer.state.captures import StepState
from kerasweep.workers.trainer.state.checkpoint import has_own_step


def build(model: keras.Model, train: Part, validation: Part | None, training: Training) -> None:
    """Create the variables of a model that is not built, as `fit` does: by tracing, which runs nothing.

    So no seed is drawn from, no state is changed and no batch is read. Keras' own `train_step` calls the
    model; a custom one may do anything else, so it is traced. A model that runs eagerly cannot be traced:
    without a `call()` its first step builds it.

    Args:
        model: compiled.
        train: the training data.
        validation: the validation data, or None.
        training: how many rows a batch has, if the data are arrays.

    Raises:
        Exception: whatever the model's code raises.
    """
    if model.run_eagerly:
        with contextlib.suppress(NotImplementedError):
            model(_sample(train, training.batch_size))
    elif has_own_step(model):
        strategy = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
        StepState().trace(model, step_specs(train, validation, training), strategy)
        model.built = True  # if no call() told Keras so
    else:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(batch_spec(train, training.batch_size))
        tf.function(_called(model), autograph=False).get_concrete_function(x)


def _called(model: keras.Model) -> Callable[[Any], Any]:
    """Return a function that calls a model as Keras' `train_step` does."""
    return lambda x: model(x, training=True) if model._call_has_training_arg else model(x)


def step_specs(train: Part, validation: Part | None, training: Training) -> dict[str, Any]:
    """Return the inputs of a model's steps by the steps' names, as `tf.TensorSpec`.

    The parts of the data may differ in structure, such as pairs of images with and without labels.
    """
    specs = {"train_step": batch_spec(train, training.batch_size)}
    if validation is not None:
        batch_size = training.validation_batch_size or training.batch_size
        specs["test_step"] = batch_spec(validation, batch_size)
    return specs


def batch_spec(part: Part, batch_size: int) -> Any:
    """Return the input of a model's step, as `tf.TensorSpec`."""
    if isinstance(part, Arrays):
        rows = None if part.rows % batch_size and part.rows > batch_size else min(batch_size, part.rows)
        return _specs(part.packed(), rows)
    if isinstance(part.dataset, keras.utils.PyDataset):
        with unchanged(part.dataset):
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

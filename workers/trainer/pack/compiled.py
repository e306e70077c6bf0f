"""Builds what `compile` defers: losses and metrics before the first step, loss weights as variables.

Keras builds them inside the first trace. A trial that uses another's compiled program makes no trace, so they
are built here.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def build_compiled(model: keras.Model, batch: Any) -> None:
    """Build a functional or sequential model's losses and metrics, and make its loss weights variables.

    A numeric loss weight is a constant of the graph, and trials that differ in it would each need a program.
    Both engines do this, since a graph with a constant may be rounded differently.

    Args:
        model: compiled and built; nothing is done for a subclass, which may build its own.
        batch: the input of its `train_step`, as `tf.TensorSpec`.
    """
    outputs = _outputs(model)
    if outputs is None:
        return
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(
        keras.tree.map_structure(lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), batch)
    )
    del x
    rows = keras.tree.flatten(y)[0].shape[0] if y is not None else None
    outputs = keras.tree.map_structure(
        lambda output: keras.KerasTensor((rows, *output.shape[1:]), output.dtype), outputs
    )
    metrics, losses = model._compile_metrics, model._compile_loss
    if metrics is not None and not metrics.built:
        metrics.build(y, outputs)
    if metrics is not None and not all(getattr(one, "_built", True) for one in metrics.metrics):
        # F-scores and R2 create their variables in their first update.
        keras.src.backend.compute_output_spec(
            lambda *batch: metrics.update_state(*batch), y, outputs, sample_weight
        )
    if losses is not None and not losses.built:
        if keras.tree.is_nested(y) or keras.tree.is_nested(outputs):
            # The targets are converted to the outputs' structure on the way, so it is really called.
            keras.src.backend.compute_output_spec(losses, y, outputs, sample_weight=sample_weight)
        else:
            losses.build(y, outputs)
    if losses is not None:
        _lift_weights(losses)


def _outputs(model: keras.Model) -> Any:
    """Return the structure of a functional or sequential model's outputs; None for other models."""
    functional = getattr(model, "_functional", model)
    return getattr(functional, "_outputs_struct", None)


def _lift_weights(losses: Any) -> None:
    lifted = []
    for loss in losses._flat_losses:
        weight = loss.loss_weights
        if isinstance(weight, (int, float)) and not isinstance(weight, bool):
            weight = tf.Variable(float(weight), trainable=False, dtype=losses.dtype, name="loss_weight")
        lifted.append(loss._replace(loss_weights=weight))
    losses._flat_losses = lifted

"""What a family of graphs has learned about its constants, and the one program that its trials share."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.graph.lifting import Constants, Example, differing, explain
from kerasweep.workers.trainer.graph.stepping import Handles, Loop

log = logging.getLogger(__name__)

#: How many steps are compared from one state of the variables.
_STEPS = 3
#: How many numbers are compared in all, and from how many states at most. Where TensorFlow rewrites
#: operations, few numbers are rounded otherwise; in a small model, or its loss, perhaps none at first.
_NUMBERS, _STATES = 3_000_000, 64
#: A comparison of several states ends about here.
_COMPARED_S = 0.4
#: More traces add nothing new.
_EXAMPLES_KEPT = 64


class Lessons:
    """What the traces of a family showed. Not thread-safe."""

    def __init__(self) -> None:
        self._examples: list[Example] = []
        #: Which constants differ within the family.
        self.places: tuple[int, ...] = ()
        #: Whether lifted constants gave the same bits; None before that was tried.
        self.proven: bool | None = None

    def constants(self, config: tuple[float, ...] | None) -> Constants | None:
        """Return the constants of a model without tracing it; None if only its trace reveals them."""
        if config is None:
            return None
        for example in self._examples:
            if example.config == config:
                return example.constants
        return explain(self._examples, config)

    def learn(self, example: Example) -> None:
        """Record a trace."""
        if self._examples and len(example.constants) != len(self._examples[0].constants):
            return  # of a different structure after all: it has its own program
        before = self.places
        self._examples.append(example)
        del self._examples[1:-_EXAMPLES_KEPT]
        self.places = differing(self._examples)
        if self.places != before:
            self.proven = None

    def fits(self, constants: Constants) -> bool:
        """Tell whether constants differ from those of the first trace only in the known positions."""
        first, places = self._examples[0].constants, set(self.places)
        return len(first) == len(constants) and all(
            at in places or one.tobytes() == other.tobytes()
            for at, (one, other) in enumerate(zip(first, constants, strict=True))
        )


@dataclass(frozen=True)
class Computation:
    """One way to compute a model's steps.

    Args:
        train: the training loop.
        test: the validation loop, or None.
        handles: of the model's variables, for both.
        train_numbers: lifted constants of the training loop.
        test_numbers: of the validation loop.
    """

    train: Loop
    test: Loop | None
    handles: Handles
    train_numbers: Sequence[tf.Tensor] = ()
    test_numbers: Sequence[tf.Tensor] = ()

    def outcomes(self, train: Any, validation: Any, states: int | None = None) -> list[list[int]]:
        """Make a few steps on copies of the variables from each of several states, the first as they are.

        Args:
            train: all training rows, as tensors.
            validation: all validation rows, or None.
            states: how many; by default as many as are worth comparing.

        Returns:
            the hash of each variable's bytes afterwards, by state; last, those after the last batch.
        """
        copies = {id(handle): copy_variable(handle) for handle in self.handles}
        variables = [copy for copy in copies.values() if copy is not None]
        handles = [handle if (copy := copies[id(handle)]) is None else copy.handle for handle in self.handles]
        before, found = [variable.numpy() for variable in variables], list[list[int]]()
        most = states or min(_STATES, math.ceil(_NUMBERS / max(1, sum(value.size for value in before))))
        until_s = math.inf
        while len(found) < most and (states or time.perf_counter() < until_s):
            if found:
                _add_noise(variables, before, len(found))
            whole = self._run(handles, train, validation, len(found) * _STEPS)
            if not found:  # the first call compiles
                until_s = time.perf_counter() + _COMPARED_S
            found.append(_hashes_of(variables) if whole else [])
        whole = self._run(handles, train, validation, -1)  # the last batches may be smaller
        return [*found, _hashes_of(variables) if whole else []]

    def _run(self, handles: Handles, train: Any, validation: Any, place: int) -> bool:
        """Make some steps of training and one of validation, from a place in an endless row of batches.

        Returns:
            whether they could be made: not from every state, such as a matrix that was positive definite.
        """
        split, cut = self.train.captures, self.train.cut
        start, order = place % cut.steps, tf.constant(np.arange(cut.rows))
        stop = min(cut.steps, start + _STEPS)
        try:
            self.train.run(handles[:split], train, order, start, stop, self.train_numbers)
            if self.test is not None:
                at = place % self.test.cut.steps
                self.test.run(handles[split:], validation, None, at, at + 1, self.test_numbers)
        except tf.errors.InvalidArgumentError:
            return False
        return True


def _hashes_of(variables: Sequence[tf.Variable]) -> list[int]:
    # the raw operations, since the variables' own methods take three times as long
    read = [tf.raw_ops.ReadVariableOp(resource=one.handle, dtype=one.dtype) for one in variables]
    return [hash(value.numpy().tobytes()) for value in read]


def _add_noise(variables: Sequence[tf.Variable], before: Sequence[NDArray[Any]], seed: int) -> None:
    """Set variables to what they were before, with noise: zeros and ones may hide a difference, and so may
    losses far from those of a training, therefore of several strengths.
    """
    rng, strength = np.random.default_rng(seed), 0.3 ** (seed % 4)
    noise = strength * (0.3 + 0.1 * rng.standard_normal(sum(value.size for value in before), np.float32))
    at = 0
    for variable, value in zip(variables, before, strict=True):
        if variable.dtype.is_floating:
            value = value + noise[at : at + value.size].reshape(value.shape).astype(value.dtype)
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.constant(value))
        at += value.size


def loop_is_faithful(looped: Computation, single: Computation, train: Any, validation: Any) -> bool:
    """Tell whether a loop gives the bits of the same steps in calls of their own, as `fit` makes them."""
    faithful = _same(single, looped, train, validation)
    if not faithful:
        log.info("steps of a graph are called one by one: a loop rounds otherwise")
    return faithful


def same_bits(exact: Computation, lifted: Computation, train: Any, validation: Any) -> bool:
    """Tell whether steps with lifted constants give the same bits as those that contain them.

    TensorFlow may rewrite operations on a constant, such as a division by one.
    """
    same = _same(exact, lifted, train, validation)
    if not same:
        log.info("the constants of a family are not lifted: lifted ones gave different bits")
    return same


def _same(one: Computation, other: Computation, train: Any, validation: Any) -> bool:
    found = one.outcomes(train, validation)
    return other.outcomes(train, validation, len(found) - 1) == found


def copy_variable(capture: tf.Tensor) -> tf.Variable | None:
    """Return a copy of the variable that a captured handle points to; None for anything that is not a
    variable.
    """
    data = capture._handle_data if capture.dtype == tf.resource else None
    if data is None or not data.shape_and_type:  # such as a lookup table
        return None
    dtype = tf.dtypes.as_dtype(data.shape_and_type[0].dtype)
    return tf.Variable(tf.raw_ops.ReadVariableOp(resource=capture, dtype=dtype))

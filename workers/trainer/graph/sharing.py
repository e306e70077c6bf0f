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

from kerasweep.workers.trainer.graph.lifting import Example, differing, explain
from kerasweep.workers.trainer.graph.stepping import Handles, Loop

log = logging.getLogger(__name__)

#: How many steps are compared from one state of the variables.
_STEPS = 3
#: How many numbers are compared in all, and from how many states. Where TensorFlow rewrites operations, few
#: numbers are rounded otherwise; in a small model, or its loss, perhaps none at first, or only at one step
#: of a schedule.
_NUMBERS, _FEWEST_STATES, _STATES = 3_000_000, 16, 96
#: How much faster counters go on in some states than in the others.
_FAR = 100
#: What variables are multiplied by in some states.
_SMALL = 1e-6
#: A comparison of several states ends about here, and one of the fewest.
_COMPARED_S, _LONGEST_S = 0.4, 2.0
#: More traces add nothing new.
_EXAMPLES_KEPT = 64


class Lessons:
    """What the traces of a family showed. Not thread-safe."""

    def __init__(self) -> None:
        self._examples: list[Example] = []
        #: Which constants differ within the family.
        self.places: tuple[int, ...] = ()
        #: Whether the traces differ in constants alone, so that they show what an untraced model has.
        self._alike = True

    def known(self, config: tuple[float, ...] | None) -> Example | None:
        """Return what the trace of a model would show; None if only its trace does."""
        if config is None or not self._alike:
            return None
        for example in self._examples:
            if example.config == config:
                return example
        constants = explain(self._examples, config)
        return None if constants is None else Example(config, constants, self._examples[0].rest)

    def learn(self, example: Example) -> None:
        """Record a trace."""
        if self._examples and not self._has_rest_of_first(example):
            self._alike = False  # it has its own program
            return
        self._examples.append(example)
        del self._examples[1:-_EXAMPLES_KEPT]
        self.places = differing(self._examples)

    def fits(self, example: Example) -> bool:
        """Tell whether a trace differs from the first only in the constants in the known positions."""
        places = set(self.places)
        return self._has_rest_of_first(example) and all(
            at in places or one.tobytes() == other.tobytes()
            for at, (one, other) in enumerate(
                zip(self._examples[0].constants, example.constants, strict=True)
            )
        )

    def _has_rest_of_first(self, example: Example) -> bool:
        if not self._examples:
            return False
        first = self._examples[0]
        return first.rest == example.rest and len(first.constants) == len(example.constants)


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
        size = max(1, sum(value.size for value in before))
        most = states or min(_STATES, max(_FEWEST_STATES, math.ceil(_NUMBERS / size)))
        begun_s = math.inf
        while len(found) < most:
            if found:
                _add_noise(variables, before, len(found))
            # from small ones, only the first step is from there
            steps = 1 if _are_small(len(found)) else _STEPS
            whole = self._run(handles, train, validation, len(found) * _STEPS, steps)
            found.append(_hashes_of(variables) if whole else [])
            begun_s = min(begun_s, time.perf_counter())  # the first call compiles
            ends_s = _COMPARED_S if len(found) >= _FEWEST_STATES else _LONGEST_S
            if states is None and time.perf_counter() > begun_s + ends_s:
                break
        whole = self._run(handles, train, validation, -1, 1)  # the last batches may be smaller
        return [*found, _hashes_of(variables) if whole else []]

    def _run(self, handles: Handles, train: Any, validation: Any, place: int, steps: int) -> bool:
        """Make steps of training and one of validation, from a place in an endless row of batches.

        Returns:
            whether they could be made: not from every state, such as a matrix that was positive definite.
        """
        split, cut = self.train.captures, self.train.cut
        start, order = place % cut.steps, tf.constant(np.arange(cut.rows))
        stop = min(cut.steps, start + steps)
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


def _are_small(state: int) -> bool:
    return state % 2 == 1


def _add_noise(variables: Sequence[tf.Variable], before: Sequence[NDArray[Any]], seed: int) -> None:
    """Set variables to what they were before, with noise: zeros and ones may hide a difference, and so may
    losses far from those of a training, therefore of several strengths. Where all are small, the last bit of
    a learning rate shows. Counters, by which schedules and corrections of momenta compute, are set to what
    they are later in a training.
    """
    later = seed // 2 * (_FAR if seed % 16 == 0 else 1)
    strength, scale = 0.3 ** (seed % 4), _SMALL if _are_small(seed) else 1.0
    # above 0, since an optimizer takes the square roots of some
    drawn = np.random.default_rng(seed).random(sum(value.size for value in before), np.float32)
    noise = strength * (0.1 + 0.4 * drawn)
    at = 0
    for variable, value in zip(variables, before, strict=True):
        if variable.dtype.is_floating:
            value = value + noise[at : at + value.size].reshape(value.shape).astype(value.dtype)
            value = (scale * value).astype(value.dtype)
        elif variable.dtype.is_integer and not value.shape:
            value = value + np.asarray(later, value.dtype)
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

"""What a family of graphs has learned about its constants, and the one program that its trials share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kerasweep.workers.trainer.pack.lifting import Constants, Example, differing, explain
from kerasweep.workers.trainer.pack.stepping import Handles, Loop

log = logging.getLogger(__name__)

#: How many steps must give the same bits with lifted constants as without.
_STEPS = 3
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

    def outcome(self, train: Any, validation: Any, noise: bool = False) -> dict[int, bytes]:
        """Make a few steps on copies of the variables; return the bytes of each afterwards.

        Args:
            train: all training rows, as tensors.
            validation: all validation rows, or None.
            noise: add noise to the copies first, because zeros and ones may hide a difference.
        """
        copies = {id(handle): copy_variable(handle) for handle in self.handles}
        if noise:
            _add_noise([copy for copy in copies.values() if copy is not None])
        handles = [handle if (copy := copies[id(handle)]) is None else copy.handle for handle in self.handles]
        split, steps = self.train.captures, self.train.cut.steps
        order = tf.constant(np.arange(self.train.cut.rows))
        self.train.run(handles[:split], train, order, 0, min(_STEPS, steps), self.train_numbers)
        self.train.run(handles[:split], train, order, steps - 1, steps, self.train_numbers)
        if self.test is not None:
            last = self.test.cut.steps
            self.test.run(handles[split:], validation, None, last - 1, last, self.test_numbers)
        return {key: copy.numpy().tobytes() for key, copy in copies.items() if copy is not None}


def _add_noise(variables: Sequence[tf.Variable]) -> None:
    """Add the same noise to variables each time."""
    rng = np.random.default_rng(0)
    for variable in variables:
        if variable.dtype.is_floating:
            variable.assign_add(tf.cast(rng.normal(0.3, 0.1, variable.shape), variable.dtype))


def loop_is_faithful(looped: Computation, single: Computation, train: Any, validation: Any) -> bool:
    """Tell whether a loop gives the bits of the same steps in calls of their own, as `fit` makes them."""
    faithful = all(
        looped.outcome(train, validation, noise) == single.outcome(train, validation, noise)
        for noise in (False, True)
    )
    if not faithful:
        log.info("steps of a graph are called one by one: a loop rounds otherwise")
    return faithful


def same_bits(exact: Computation, lifted: Computation, train: Any, validation: Any) -> bool:
    """Tell whether steps with lifted constants give the same bits as those that contain them.

    TensorFlow may rewrite operations on a constant, such as a division by one.
    """
    same = exact.outcome(train, validation) == lifted.outcome(train, validation)
    if not same:
        log.info("the constants of a family are not lifted: lifted ones gave different bits")
    return same


def copy_variable(capture: tf.Tensor) -> tf.Variable | None:
    """Return a copy of the variable that a captured handle points to; None for anything that is not a
    variable.
    """
    kinds = capture._handle_data.shape_and_type if capture.dtype == tf.resource else ()
    if not kinds:
        return None
    dtype = tf.dtypes.as_dtype(kinds[0].dtype)
    return tf.Variable(tf.raw_ops.ReadVariableOp(resource=capture, dtype=dtype))

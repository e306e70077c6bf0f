"""Graphs, what was compiled of them, and the families of those that differ in constants alone."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.pack.fingerprint import unkept_state
from kerasweep.workers.trainer.pack.graph_key import variables_of
from kerasweep.workers.trainer.pack.lifting import Constants, constants_of, lift
from kerasweep.workers.trainer.pack.sharing import Lessons
from kerasweep.workers.trainer.pack.stepping import Cut, Handles, Loop, Step

log = logging.getLogger(__name__)

_WAIT_S = 0.2


@dataclass(frozen=True)
class Material:
    """What a program is made for.

    Args:
        model: the trial's.
        seed: seeds random operations of the job's, which TensorFlow fixes while it traces.
        wait: called now and then while another thread compiles the program.
        train: all training rows, as tensors.
        train_cut: into batches.
        validation: all validation rows, as tensors; None without any.
        validation_cut: into batches.
        told: called with the family's key as soon as it is known.
        train_numbers: what the training step takes as its lifted constants.
        test_numbers: what the validation step takes so.
    """

    model: keras.Model
    seed: Callable[[], None]
    wait: Callable[[], None]
    train: Any
    train_cut: Cut
    validation: Any | None
    validation_cut: Cut | None
    told: Callable[[str], None] = lambda _: None
    train_numbers: tuple[tf.Tensor, ...] = ()
    test_numbers: tuple[tf.Tensor, ...] = ()

    def with_numbers(self, train: Sequence[NDArray[Any]], test: Sequence[NDArray[Any]]) -> Material:
        """Return the same with lifted constants."""
        with tf.device("CPU:0"):
            given = [tuple(tf.constant(number) for number in numbers) for numbers in (train, test)]
        return replace(self, train_numbers=given[0], test_numbers=given[1])

    def shapes(self) -> str:
        """Return what of the data shows in a program."""
        parts = (self.train, self.validation or ())
        specs = [(tensor.shape, tensor.dtype) for tensor in tf.nest.flatten(parts)]
        structure = tf.nest.map_structure(lambda _: 0, parts)
        return f"{specs} {structure} {self.train_cut} {self.validation_cut}"


@dataclass(frozen=True)
class TracedSteps:
    """A model's steps, traced."""

    train: Step
    test: Step | None

    @property
    def captures(self) -> tuple[tf.Tensor, ...]:
        """Those of both, one after the other."""
        return self.train.captures + (self.test.captures if self.test else ())

    @property
    def constants(self) -> Constants:
        """The numbers in both, one after the other."""
        return constants_of(self.train.function) + (constants_of(self.test.function) if self.test else ())

    def lifted(self, places: Sequence[int]) -> TracedSteps | None:
        """Return the same steps with some of `constants`, by place, as arguments; None if they cannot be."""
        split = len(constants_of(self.train.function))
        train = lift(self.train.function, [at for at in places if at < split])
        if train is None:
            return None
        if self.test is None:
            return TracedSteps(replace(self.train, lifted=train), None)
        test = lift(self.test.function, [at - split for at in places if at >= split])
        if test is None:
            return None
        return TracedSteps(replace(self.train, lifted=train), replace(self.test, lifted=test))

    def numbers_at(self, places: Sequence[int], constants: Constants) -> tuple[list[Any], list[Any]]:
        """Return the constants that the training step takes as arguments, and the validation step's."""
        split = len(constants_of(self.train.function))
        ahead = [constants[at] for at in places if at < split]
        behind = [constants[at] for at in places if at >= split]
        return _used(self.train, ahead), _used(self.test, behind)

    @property
    def own_state(self) -> list[str]:
        """The operations in them that keep a state which no checkpoint holds."""
        steps = [step for step in (self.train, self.test) if step]
        return sorted({name for step in steps for name in unkept_state(step.function.graph)})


def _used(step: Step | None, numbers: list[Any]) -> list[Any]:
    return [numbers[at] for at in step.lifted.used] if step and step.lifted else []


@dataclass(frozen=True)
class Loops:
    """Loops over a graph's training and validation steps, compiled in one way."""

    xla: bool
    train: Loop
    test: Loop | None


class Held:
    """What one thread holds at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def held(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold it alone; others wait."""
        while not self._lock.acquire(timeout=_WAIT_S):
            wait()
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True)
class Timing:
    """What a graph was measured to take.

    Args:
        plain_s: seconds a step without XLA.
        xla_s: with XLA.
        compile_s: seconds that XLA took to compile it.
        refusal: why XLA does not compile it; empty where it does.
    """

    plain_s: float
    xla_s: float
    compile_s: float
    refusal: str = ""


class Family(Held):
    """Graphs that differ in their constants' values alone: one is measured, all are compiled in the same way.

    Args:
        key: equal in every process.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.timing: Timing | None = None
        self.lessons = Lessons()
        #: Held while something is learned.
        self.learning = Held()
        #: The first graph of the family, and the same one with the constants that differ as arguments.
        self.first: Graph | None = None
        self._shared: tuple[tuple[int, ...], Graph | None] | None = None

    def shared(self) -> tuple[tuple[int, ...], Graph] | None:
        """Return which constants are lifted, and the graph that takes them; None where none differ."""
        places = self.lessons.places
        if not places or self.first is None or self.first.steps is None:
            return None
        if self._shared is None or self._shared[0] != places:
            self._shared = places, self.first.lifted(places)
        graph = self._shared[1]
        return None if graph is None else (places, graph)


class Graph(Held):
    """One graph, and what was compiled of it.

    Args:
        key: equal in every process.
        family: of which it is.
    """

    def __init__(self, key: str, family: Family) -> None:
        super().__init__()
        self.key = key
        self.family = family
        self.steps: TracedSteps | None = None
        #: What the variables of the model that was traced take.
        self.kept_bytes = 0
        self._places: tuple[int, ...] | None = None
        self._loops: dict[bool, Loops] = {}

    def take(self, steps: TracedSteps, model: keras.Model) -> None:
        """Take the steps that were traced of the first model of this graph."""
        self.steps = steps
        variables = variables_of(model)
        self.kept_bytes = sum(variable.dtype.size * math.prod(variable.shape) for variable in variables)
        known = {id(variable.handle): place for place, variable in enumerate(variables)}
        places = [known.get(id(capture), -1) for capture in steps.captures]
        if self.family.first is None and not steps.own_state:
            self.family.first = self
        self._places = None if -1 in places or steps.own_state else tuple(places)

    def lifted(self, places: Sequence[int]) -> Graph | None:
        """Return the graph of the same steps with constants as arguments; None where they must stay."""
        assert self.steps is not None
        steps = self.steps.lifted(places)
        if steps is None:
            log.info(
                "the constants of a family stay in its graphs: TensorFlow rewrites what they are used for"
            )
            return None
        made = Graph(f"{self.family.key} lifted {list(places)}", self.family)
        made.steps, made.kept_bytes, made._places = steps, self.kept_bytes, self._places
        return made

    def loops(self, xla: bool, material: Material) -> Loops:
        """Return the loops, made now if they are wanted for the first time."""
        assert self.steps is not None
        if xla not in self._loops:
            test = None
            if self.steps.test is not None and material.validation_cut is not None:
                test = Loop(self.steps.test, material.validation, material.validation_cut, xla)
            train = Loop(self.steps.train, material.train, material.train_cut, xla)
            self._loops[xla] = Loops(xla, train, test)
        return self._loops[xla]

    def handles(self, model: keras.Model) -> Handles | None:
        """Return a model's handles in the captures' places; None where only its own trace tells them."""
        if self._places is None:
            return None
        variables = variables_of(model)
        return [variables[place].handle for place in self._places]

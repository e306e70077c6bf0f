"""Graphs, their compiled programs, and the families of those that differ only in constants."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.workers.trainer.graph.fingerprint import (
    every_node,
    kind_of,
    rest_of,
    structure_of,
    unkept_state,
)
from kerasweep.workers.trainer.graph.graph_key import variables_of
from kerasweep.workers.trainer.graph.lifting import Constants, constants_of, lift
from kerasweep.workers.trainer.graph.sharing import Computation, Lessons, loop_is_faithful
from kerasweep.workers.trainer.graph.stepping import Cut, Handles, Loop, Step, with_fast_draws

log = logging.getLogger(__name__)

_WAIT_S = 0.2
#: Operations that repeat others.
_LOOPS = frozenset({"While", "StatelessWhile"})


@dataclass(frozen=True)
class Material:
    """The material for a program.

    Args:
        model: the trial's.
        seed: seeds the job's random operations, which TensorFlow fixes while tracing.
        wait: called now and then while another thread compiles the program.
        train: all training rows, as tensors.
        train_cut: its division into batches.
        validation: all validation rows, as tensors; None without any.
        validation_cut: its division into batches.
        told: called with the family's key as soon as it is known.
        train_numbers: the lifted constants of the training step.
        test_numbers: those of the validation step.
        tracing: returns the context in which a step, given by its name, is traced.
        quiet: returns a context in which other trials make no steps, so that one can be timed.
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
    tracing: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext

    def with_numbers(self, train: Sequence[NDArray[Any]], test: Sequence[NDArray[Any]]) -> Material:
        """Return the same with lifted constants."""
        with tf.device("CPU:0"):
            given = [tuple(tf.constant(number) for number in numbers) for numbers in (train, test)]
        return replace(self, train_numbers=given[0], test_numbers=given[1])

    def shapes(self) -> str:
        """Return what a program depends on in the data."""
        parts = (self.train, () if self.validation is None else self.validation)
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
        """The captures of both, one after the other."""
        return self.train.captures + (self.test.captures if self.test else ())

    @cached_property
    def _of_train(self) -> Constants:
        return constants_of(self.train.function)

    @cached_property
    def constants(self) -> Constants:
        """The numbers in both, one after the other."""
        return self._of_train + (constants_of(self.test.function) if self.test else ())

    @cached_property
    def kind(self) -> str:
        """Equal for graphs of the same operations, whatever their sizes, number and order."""
        return kind_of(self._graphs)

    @cached_property
    def rest(self) -> str:
        """Equal for graphs that differ in `constants` alone."""
        return " ".join(rest_of(step) for step in self._steps)

    @cached_property
    def structure(self) -> str:
        """Equal for graphs of the same operations in the same order with the same numbers, whatever their
        sizes.
        """
        return " ".join(structure_of(step, numbers=True) for step in self._steps)

    @cached_property
    def rewriting(self) -> str:
        """Equal for graphs of one structure, but for numbers that TensorFlow rewrites alike."""
        return " ".join(structure_of(step, numbers=False) for step in self._steps)

    @cached_property
    def has_loop(self) -> bool:
        """Whether they contain a loop, as recurrent layers do."""
        return any(node.op in _LOOPS for graph in self._graphs for node in every_node(graph.as_graph_def()))

    def lifted(self, places: Sequence[int]) -> TracedSteps | None:
        """Return the same steps with some of `constants`, by position, as arguments; None if impossible."""
        split = len(self._of_train)
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
        """Return the constants that are arguments of the training step, and of the validation step."""
        split = len(self._of_train)
        ahead = [constants[at] for at in places if at < split]
        behind = [constants[at] for at in places if at >= split]
        return _used(self.train, ahead), _used(self.test, behind)

    @property
    def own_state(self) -> list[str]:
        """Their operations with state that no checkpoint holds."""
        return sorted({name for graph in self._graphs for name in unkept_state(graph)})

    @property
    def _steps(self) -> list[Step]:
        return [step for step in (self.train, self.test) if step]

    @property
    def _graphs(self) -> list[Any]:
        return [step.function.graph for step in self._steps]


def _on_gpu(data: Any) -> bool:
    return any("GPU" in tensor.device for tensor in tf.nest.flatten(data))


def _used(step: Step | None, numbers: list[Any]) -> list[Any]:
    return [numbers[at] for at in step.lifted.used] if step and step.lifted else []


@dataclass(frozen=True)
class Loops:
    """Loops over a graph's training and validation steps, compiled in one way."""

    xla: bool
    train: Loop
    test: Loop | None


class Held:
    """A lock that one thread holds at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def held(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold it exclusively; others wait."""
        while not self._lock.acquire(timeout=_WAIT_S):
            wait()
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True)
class Timing:
    """The measured times of a graph.

    Args:
        plain_s: seconds per step without XLA.
        xla_s: with XLA.
        compile_s: seconds that XLA took to compile it.
        refusal: why XLA cannot compile it; empty if it can.
    """

    plain_s: float
    xla_s: float
    compile_s: float
    refusal: str = ""


@dataclass(frozen=True)
class Outlook:
    """What to expect of XLA, by the graph of a kind that was timed first.

    Args:
        ratio: the time of a step with XLA, as a multiple of the time without.
        compile_s: seconds that XLA took to compile the graph.
    """

    ratio: float
    compile_s: float


class Kind(Held):
    """Graphs of the same operations: what one of them teaches is not tried in the others.

    Args:
        key: equal in every process.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        #: Whether XLA did not pay.
        self.spoiled = False
        #: What it does for other graphs; None before one was timed.
        self.outlook: Outlook | None = None
        #: Whether loops gave the bits of single steps, by the graphs' structure.
        self.faithful: dict[str, bool] = {}
        #: Whether lifted constants gave the same bits, by how graphs are rewritten, the lifted places, and
        #: the sorts of the numbers there.
        self.proven: dict[tuple[str, tuple[int, ...], tuple[str, ...]], bool] = {}
        #: Held while that is tried.
        self.proving = Held()


class Kinds:
    """The kinds of graphs that this process has seen. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Kind] = {}

    def of(self, graph: Graph) -> Kind:
        """Return a traced graph's kind."""
        assert graph.steps is not None
        key = graph.steps.kind
        with self._lock:
            return self._known.setdefault(key, Kind(key))


class Family(Held):
    """Graphs that differ only in the values of constants: one is measured, and all are compiled in the same
    way.

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
        #: The first graph of the family, and the same graph with the differing constants as arguments.
        self.first: Graph | None = None
        self._shared: tuple[tuple[int, ...], Graph | None] | None = None

    def shared(self) -> tuple[tuple[int, ...], Graph] | None:
        """Return which constants are lifted, and the graph that takes them; None if none differ."""
        places = self.lessons.places
        if not places or self.first is None or self.first.steps is None:
            return None
        if self._shared is None or self._shared[0] != places:
            self._shared = places, self.first.lifted(places)
        graph = self._shared[1]
        return None if graph is None else (places, graph)


class Graph(Held):
    """One graph, and its compiled programs.

    Args:
        key: equal in every process.
        family: its family.
    """

    def __init__(self, key: str, family: Family) -> None:
        super().__init__()
        self.key = key
        self.family = family
        self.steps: TracedSteps | None = None
        #: How the variables of the traced model are used.
        self.kept_bytes = 0
        self._places: tuple[int, ...] | None = None
        self._variables = 0
        self._loops: dict[bool, Loops] = {}
        self._singles: Loops | None = None

    def take(self, steps: TracedSteps, model: keras.Model) -> None:
        """Store the steps traced from the first model of this graph."""
        self.steps = steps
        variables = variables_of(model)
        self.kept_bytes = sum(variable.dtype.size * math.prod(variable.shape) for variable in variables)
        self._variables = len(variables)
        known = {id(variable.handle): place for place, variable in enumerate(variables)}
        places = [known.get(id(capture), -1) for capture in steps.captures]
        if self.family.first is None and not steps.own_state:
            self.family.first = self
        self._places = None if -1 in places or steps.own_state else tuple(places)

    def lifted(self, places: Sequence[int]) -> Graph | None:
        """Return the graph of the same steps with constants as arguments; None if they must stay."""
        assert self.steps is not None
        steps = self.steps.lifted(places)
        if steps is None:
            log.info(
                "the constants of a family are not lifted: TensorFlow rewrites the operations that use them"
            )
            return None
        made = Graph(f"{self.family.key} lifted {list(places)}", self.family)
        made.steps, made.kept_bytes = steps, self.kept_bytes
        made._places, made._variables = self._places, self._variables
        return made

    def loops(self, xla: bool, material: Material) -> Loops:
        """Return the loops, creating them on first use."""
        assert self.steps is not None
        if xla not in self._loops:
            self._loops[xla] = self._make(xla, material)
        return self._loops[xla]

    def _make(self, xla: bool, material: Material, single: bool = False) -> Loops:
        assert self.steps is not None
        test = None
        if self.steps.test is not None and material.validation_cut is not None:
            test = Loop(self.steps.test, material.validation, material.validation_cut, xla, single)
        step = self.steps.train
        if xla and not _on_gpu(material.train):
            step = with_fast_draws(step)
        train = Loop(step, material.train, material.train_cut, xla, single)
        return Loops(xla, train, test)

    def faithful_loops(self, loops: Loops, material: Material, handles: Handles, kind: Kind) -> Loops:
        """Return loops that give the bits of `fit`: those given, or single steps where they do not."""
        if loops.xla:
            return loops
        assert self.steps is not None
        if self.steps.own_state:  # which steps on trial would change
            return self._single_steps(material)
        structure = self.steps.structure
        with kind.held(material.wait):
            if structure not in kind.faithful:
                kind.faithful[structure] = self._try_loops(loops, material, handles)
        return loops if kind.faithful[structure] else self._single_steps(material)

    def _try_loops(self, loops: Loops, material: Material, handles: Handles) -> bool:
        """Tell whether loops give the bits of single steps; these are kept only where they are needed."""
        singles = self._make(False, material, single=True)
        looped = Computation(loops.train, loops.test, handles)
        single = Computation(singles.train, singles.test, handles)
        faithful = loop_is_faithful(looped, single, material.train, material.validation)
        if not faithful:
            self._singles = singles
        return faithful

    def _single_steps(self, material: Material) -> Loops:
        if self._singles is None:
            self._singles = self._make(False, material, single=True)
        return self._singles

    def handles(self, model: keras.Model) -> Handles | None:
        """Return a model's handles in the captures' order; None if only its own trace reveals them."""
        if self._places is None:
            return None
        variables = variables_of(model)
        if len(variables) != self._variables:  # some are created only when its own steps are traced
            return None
        return [variables[place].handle for place in self._places]

"""Compiled programs, kept by graph: what one trial had compiled, the next ones of its graph use."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakValueDictionary

import keras
import tensorflow as tf

from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM
from kerasweep.workers.trainer.pack.compiled import build_compiled
from kerasweep.workers.trainer.pack.fingerprint import fingerprint, unkept_state
from kerasweep.workers.trainer.pack.graph_key import GraphKey, config_key, variables_of
from kerasweep.workers.trainer.pack.stepping import Cut, Handles, Loop, Step, trace_step

#: Graphs kept; each keeps the memory of the model that it was traced with.
_KEPT = 32
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
        told: called with the graph's key as soon as it is known.
    """

    model: keras.Model
    seed: Callable[[], None]
    wait: Callable[[], None]
    train: Any
    train_cut: Cut
    validation: Any | None
    validation_cut: Cut | None
    told: Callable[[str], None] = lambda _: None

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
    def own_state(self) -> list[str]:
        """The operations in them that keep a state which no checkpoint holds."""
        found = {name for step in (self.train, self.test) if step for name in unkept_state(step)}
        return sorted(found)


@dataclass(frozen=True)
class Loops:
    """Loops over a graph's training and validation steps, compiled in one way."""

    xla: bool
    train: Loop
    test: Loop | None


@dataclass(frozen=True)
class Bound:
    """A program with one model's variables in it.

    Args:
        loops: to call.
        train_handles: for the training loop.
        test_handles: for the validation loop.
        notes: what the user should know of this graph.
        traced: the model's own trace; None where another stands for it, which captures only listed ones.
    """

    loops: Loops
    train_handles: Handles
    test_handles: Handles
    notes: tuple[str, ...]
    traced: TracedSteps | None = None


class _Held:
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


class Family(_Held):
    """Graphs that differ in their constants' values alone: one is measured, all are compiled in the same way.

    Args:
        key: equal in every process.
    """

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.timing: Timing | None = None


class Graph(_Held):
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
        self._places = None if -1 in places or steps.own_state else tuple(places)

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


class LoopChooser(Protocol):
    """Decides whether XLA compiles a graph, and returns the loops to train with."""

    def __call__(self, graph: Graph, material: Material) -> Loops: ...


class Programs:
    """The newest graphs of this process. Safe to share between threads.

    Args:
        limit_bytes: what they may keep in all; the newest is kept whatever it takes.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._graphs: OrderedDict[str, Graph] = OrderedDict()
        self._families: WeakValueDictionary[str, Family] = WeakValueDictionary()

    def bind(self, material: Material, choose: LoopChooser) -> Bound:
        """Return a program for a model, made now if there is none for its graph.

        Args:
            material: the model and the data.
            choose: decides on XLA.

        Raises:
            Exception: what the job's code raises while it is traced.
        """
        build_compiled(material.model, _batch_specs(material.train, material.train_cut))
        known = config_key(material.model)
        if known is None:
            return self._bind_traced(material, choose)
        graph = self._graph(GraphKey.joined([known], material.shapes()))
        material.told(graph.key)
        with graph.held(material.wait):
            if graph.steps is None:
                with PROCESS_RANDOM:  # models that are built meanwhile would slow it, and all wait for it
                    graph.take(_trace(material), material.model)
            handles = graph.handles(material.model)
            if handles is not None:
                return _bound(graph, choose(graph, material), handles)
        return self._bind_traced(material, choose)

    def _bind_traced(self, material: Material, choose: LoopChooser) -> Bound:
        """Bind a model whose graph only its trace tells."""
        with PROCESS_RANDOM:
            material.seed()
            steps = _trace(material)
        traced = [fingerprint(step) for step in (steps.train, steps.test) if step]
        key = GraphKey.joined(traced, material.shapes())
        # What keeps a state inside its operations cannot be shared.
        graph = Graph(key.graph, self._family(key)) if steps.own_state else self._graph(key)
        material.told(graph.key)
        with graph.held(material.wait):
            if graph.steps is None:
                graph.take(steps, material.model)
            return replace(_bound(graph, choose(graph, material), steps.captures), traced=steps)

    def _family(self, key: GraphKey) -> Family:
        with self._lock:
            return self._families.setdefault(key.family, Family(key.family))

    def _graph(self, key: GraphKey) -> Graph:
        family = self._family(key)
        with self._lock:
            graph = self._graphs.setdefault(key.graph, Graph(key.graph, family))
            self._graphs.move_to_end(key.graph)
            while len(self._graphs) > 1 and not self._fits():
                self._graphs.popitem(last=False)
            return graph

    def _fits(self) -> bool:
        kept_bytes = sum(graph.kept_bytes for graph in self._graphs.values())
        return len(self._graphs) <= _KEPT and kept_bytes <= self._limit_bytes


def _bound(graph: Graph, loops: Loops, handles: Handles) -> Bound:
    split = loops.train.captures
    assert graph.steps is not None
    return Bound(loops, handles[:split], handles[split:], _notes(graph.steps))


def _trace(material: Material) -> TracedSteps:
    model = material.model
    train = trace_step(model, model.train_step, material.train, material.train_cut)
    if material.validation is None or material.validation_cut is None:
        return TracedSteps(train, None)
    return TracedSteps(
        train, trace_step(model, model.test_step, material.validation, material.validation_cut)
    )


def _notes(steps: TracedSteps) -> tuple[str, ...]:
    if not steps.own_state:
        return ()
    rule = f"{', '.join(steps.own_state)} in the model's steps keep a state that no checkpoint holds"
    remedy = "draw random numbers with keras.random and a SeedGenerator"
    return (f"{rule}: after an interruption the trial may end with other bits; {remedy}",)


def _batch_specs(data: Any, cut: Cut) -> Any:
    return tf.nest.map_structure(
        lambda rows: tf.TensorSpec((cut.traced_rows, *rows.shape[1:]), rows.dtype), data
    )

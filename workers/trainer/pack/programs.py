"""Compiled programs, cached by graph: what one trial had compiled is used by the next ones of its graph."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from weakref import WeakValueDictionary

import tensorflow as tf

from kerasweep.workers.trainer.graph.fingerprint import fingerprint, sort_of, unkept_note
from kerasweep.workers.trainer.graph.graph_key import GraphKey, config_key
from kerasweep.workers.trainer.graph.graphs import Family, Graph, Kinds, Loops, Material, TracedSteps
from kerasweep.workers.trainer.graph.lifting import Constants, Example
from kerasweep.workers.trainer.graph.sharing import Computation, same_bits
from kerasweep.workers.trainer.graph.stepping import Cut, Handles, Loop, trace_step
from kerasweep.workers.trainer.job.seeding import PROCESS_RANDOM
from kerasweep.workers.trainer.pack.compiled import build_compiled

#: The number of graphs kept; each keeps the memory of the model that it was traced with.
_KEPT = 32


@dataclass(frozen=True)
class BoundLoop:
    """A loop bound to one model's variables and lifted constants."""

    loop: Loop
    handles: Handles
    numbers: Sequence[tf.Tensor]

    def run(self, data: Any, order: tf.Tensor | None, start: int, stop: int) -> Any:
        """Make the steps from `start` to before `stop`; return the last step's logs, if kept."""
        return self.loop.run(self.handles, data, order, start, stop, self.numbers)


@dataclass(frozen=True)
class Bound:
    """A program bound to one model.

    Args:
        xla: whether XLA compiled it.
        train: over the training data.
        test: over the validation data; None without any.
        notes: notes for the user about this graph.
        traced: the model's own trace; None if it uses another one, which captures only listed variables.
    """

    xla: bool
    train: BoundLoop
    test: BoundLoop | None
    notes: tuple[str, ...]
    traced: TracedSteps | None = None


class LoopChooser(Protocol):
    """Decides whether XLA compiles a graph, and returns the loops to train with."""

    def wants_xla(self, graph: Graph, material: Material) -> bool:
        """Decide for a graph's family."""

    def __call__(self, graph: Graph, material: Material) -> Loops:
        """Return a graph's loops, compiled as decided."""


class Programs:
    """The most recent graphs of this process. Safe to share between threads.

    Args:
        limit_bytes: how much they may keep in all; the newest is always kept.
        kinds: what is known of graphs of the same operations.
    """

    def __init__(self, limit_bytes: int, kinds: Kinds) -> None:
        self._limit_bytes = limit_bytes
        self._kinds = kinds
        self._lock = threading.Lock()
        self._graphs: OrderedDict[str, Graph] = OrderedDict()
        self._families: WeakValueDictionary[str, Family] = WeakValueDictionary()

    def bind(self, material: Material, choose: LoopChooser, traced: bool = False) -> Bound:
        """Return a program for a model, creating it if there is none for its graph.

        Args:
            material: the model and the data.
            choose: decides on XLA.
            traced: whether only traces tell its graphs, because its steps were traced at different times.

        Raises:
            Exception: whatever the job's code raises during tracing.
        """
        build_compiled(material.model, _batch_specs(material.train, material.train_cut))
        known = None if traced else config_key(material.model)
        if known is None:
            return self._bind_traced(material, choose)
        key = GraphKey.joined([known], material.shapes())
        family = self._family(key)
        with family.learning.held(material.wait):
            example, steps = family.lessons.known(key.numbers), None
            if example is None:
                # building other models meanwhile would slow it down, and all wait for it
                with PROCESS_RANDOM:
                    steps = _trace(material)
                example = Example(key.numbers, steps.constants, steps.rest)
                if not steps.own_state:
                    family.lessons.learn(example)
        return self._bind(key, material, choose, example, steps) or self._bind_traced(material, choose)

    def _bind_traced(self, material: Material, choose: LoopChooser) -> Bound:
        """Bind a model whose graph is only known from its trace."""
        with PROCESS_RANDOM:
            material.seed()
            steps = _trace(material)
        traced = [fingerprint(step) for step in (steps.train, steps.test) if step]
        key = GraphKey.joined(traced, material.shapes())
        family = self._family(key)
        if steps.own_state:  # operations with state of their own cannot be shared
            material.told(key.graph)
            graph = Graph(key.graph, family)
            graph.take(steps, material.model)
            loops = choose(graph, material)
            loops = graph.faithful_loops(loops, material, steps.captures, self._kinds.of(graph))
            return replace(_bound(graph, loops, steps.captures, material), traced=steps)
        with family.learning.held(material.wait):
            example = Example(None, steps.constants, steps.rest)
            family.lessons.learn(example)
        found = self._bind(key, material, choose, example, steps, steps.captures)
        assert found is not None
        return replace(found, traced=steps)

    def _bind(
        self,
        key: GraphKey,
        material: Material,
        choose: LoopChooser,
        example: Example,
        steps: TracedSteps | None,
        own: Handles | None = None,
    ) -> Bound | None:
        """Bind the family's program, or the graph's own if its constants cannot be lifted.

        Args:
            key: the graph's.
            material: the model and the data.
            choose: decides on XLA.
            example: what its trace shows, or would show.
            steps: the model's own trace, if it was traced.
            own: the captures of that trace, if only they reveal the handles.

        Returns:
            None if only the model's own trace reveals its handles.
        """
        family = self._family(key)
        with family.learning.held(material.wait):
            shared = family.shared() if family.lessons.fits(example) else None
            apart = bool(family.lessons.places)  # with XLA, where each value has its own program
        material.told(key.graph if apart else family.key)
        if shared is not None:
            bound = self._bind_shared(*shared, material, choose, example.constants, steps, own)
            if bound is not None:
                return bound
        graph = self._graph(key)
        with graph.held(material.wait):
            if graph.steps is None:
                graph.take(steps or self._traced(material), material.model)
            handles = own or graph.handles(material.model)
            if handles is None:
                return None
            loops = graph.faithful_loops(choose(graph, material), material, handles, self._kinds.of(graph))
            return _bound(graph, loops, handles, material)

    def _bind_shared(
        self,
        places: Sequence[int],
        graph: Graph,
        material: Material,
        choose: LoopChooser,
        constants: Constants,
        steps: TracedSteps | None,
        own: Handles | None,
    ) -> Bound | None:
        """Bind the family's program; None if it does not give the same bits, or has no handles."""
        handles = own or graph.handles(material.model)
        if handles is None:
            return None
        assert graph.steps is not None
        material = material.with_numbers(*graph.steps.numbers_at(places, constants))
        with graph.held(material.wait):
            self._keep(graph)
            if choose.wants_xla(graph, material):
                return None  # an argument is computed differently from a constant
            loops = graph.loops(False, material)
            proven = self._is_proven(places, _Lifted(graph, loops, material, own), steps)
            return _bound(graph, loops, handles, material) if proven else None

    def _is_proven(self, places: Sequence[int], lifted: _Lifted, steps: TracedSteps | None) -> bool:
        """Tell whether the lifted graph gives the bits of the model's own; learn it once for families that
        differ in sizes alone, and numbers of the same sort, which TensorFlow rewrites alike.
        """
        graph, material = lifted.graph, lifted.material
        assert graph.steps is not None
        sorts = tuple(sort_of(float(number)) for number in material.train_numbers + material.test_numbers)
        kind, which = self._kinds.of(graph), (graph.steps.rewriting, tuple(places), sorts)
        with kind.proving.held(material.wait):
            if which not in kind.proven:
                exact = Graph("", graph.family)
                exact.take(steps or self._traced(material), material.model)
                kind.proven[which] = lifted.has_bits_of(exact, self._kinds)
            return kind.proven[which]

    @staticmethod
    def _traced(material: Material) -> TracedSteps:
        with PROCESS_RANDOM:
            return _trace(material)

    def _family(self, key: GraphKey) -> Family:
        with self._lock:
            return self._families.setdefault(key.family, Family(key.family))

    def _graph(self, key: GraphKey) -> Graph:
        family = self._family(key)
        with self._lock:
            graph = self._graphs.get(key.graph) or Graph(key.graph, family)
        self._keep(graph)
        return graph

    def _keep(self, graph: Graph) -> None:
        """Mark a graph as the newest, and drop the oldest if there are too many."""
        with self._lock:
            self._graphs[graph.key] = graph
            self._graphs.move_to_end(graph.key)
            while len(self._graphs) > 1 and not self._fits():
                self._graphs.popitem(last=False)

    def _fits(self) -> bool:
        kept_bytes = sum(graph.kept_bytes for graph in self._graphs.values())
        return len(self._graphs) <= _KEPT and kept_bytes <= self._limit_bytes


@dataclass(frozen=True)
class _Lifted:
    """A graph with lifted constants, to be tried on a model.

    Args:
        graph: with constants as arguments.
        loops: over its steps.
        material: the model, the data, and the model's constants.
        own: the captures of the model's own trace, if only they reveal the handles.
    """

    graph: Graph
    loops: Loops
    material: Material
    own: Handles | None

    def has_bits_of(self, exact: Graph, kinds: Kinds) -> bool:
        """Tell whether it gives the bits of the model's own graph, made step by step."""
        material = self.material
        bare = replace(material, train_numbers=(), test_numbers=())
        handles = self.own or exact.handles(material.model)
        shared = self.own or self.graph.handles(material.model)
        assert handles is not None
        assert shared is not None
        plain = exact.loops(self.loops.xla, bare)
        if exact.faithful_loops(plain, bare, handles, kinds.of(exact)) is not plain:
            return False
        numbers = material.train_numbers, material.test_numbers
        return same_bits(
            Computation(plain.train, plain.test, handles),
            Computation(self.loops.train, self.loops.test, shared, *numbers),
            material.train,
            material.validation,
        )


def _bound(graph: Graph, loops: Loops, handles: Handles, material: Material) -> Bound:
    split = loops.train.captures
    assert graph.steps is not None
    train = BoundLoop(loops.train, handles[:split], material.train_numbers)
    test = None if loops.test is None else BoundLoop(loops.test, handles[split:], material.test_numbers)
    return Bound(loops.xla, train, test, _notes(graph.steps))


def _trace(material: Material) -> TracedSteps:
    model = material.model
    with material.tracing("train_step"):
        train = trace_step(model, model.train_step, material.train, material.train_cut)
    if material.validation is None or material.validation_cut is None:
        return TracedSteps(train, None)
    with material.tracing("test_step"):
        test = trace_step(model, model.test_step, material.validation, material.validation_cut)
    return TracedSteps(train, test)


def _notes(steps: TracedSteps) -> tuple[str, ...]:
    if not steps.own_state:
        return ()
    return (unkept_note(steps.own_state),)


def _batch_specs(data: Any, cut: Cut) -> Any:
    return tf.nest.map_structure(
        lambda rows: tf.TensorSpec((cut.traced_rows, *rows.shape[1:]), rows.dtype), data
    )

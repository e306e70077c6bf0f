"""What XLA does not pay for in one graph is not tried in other graphs of the same operations."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasweep.workers.trainer.graph import graphs
from kerasweep.workers.trainer.graph.graphs import Family, Graph, Kinds, Material, Timing, TracedSteps
from kerasweep.workers.trainer.graph.sharing import Computation, loop_is_faithful
from kerasweep.workers.trainer.graph.stepping import Cut, Loop, trace_step
from kerasweep.workers.trainer.pack import calls, xla_choice
from kerasweep.workers.trainer.pack.calls import Calls
from kerasweep.workers.trainer.pack.xla_choice import Plan, Stopwatch, XlaChoice

pytestmark = pytest.mark.tf


#: Nothing to run: a graph that is to be timed needs a `Races`.
IDLE: Any = SimpleNamespace(wait=lambda: None)


def graph_of(name: str, *units: int, activation: str = "relu", recurrent: bool = False) -> Graph:
    hidden: list[Any] = [keras.layers.Dense(count, activation=activation) for count in units]
    shape = (2, 4) if recurrent else (4,)
    hidden += [keras.layers.SimpleRNN(2)] if recurrent else []
    model = keras.Sequential([keras.Input(shape), *hidden, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    graph = Graph(name, Family(name))
    data = tf.constant(np.zeros((8, *shape), np.float32))
    step = trace_step(
        model, lambda batch: {"out": model(batch, training=True)}, data, Cut(8, 8, ordered=False)
    )
    graph.steps = TracedSteps(step, None)
    return graph


def test_sizes_and_layers_do_not_make_a_kind_and_operations_do() -> None:
    kinds = Kinds()
    first = kinds.of(graph_of("a", 3))
    assert kinds.of(graph_of("b", 5)) is first
    assert kinds.of(graph_of("c", 5, 7)) is first
    assert kinds.of(graph_of("d", 3, activation="tanh")) is not first


def test_sizes_do_not_make_a_structure_and_layers_do() -> None:
    found = [graph_of("a", *units).steps for units in ((3,), (5,), (5, 7))]
    first, wider, deeper = [steps.structure for steps in found if steps]
    assert wider == first
    assert deeper != first


def test_sizes_for_which_tensorflow_rewrites_make_a_structure() -> None:
    """What has a size of 1 is broadcast, and a mean over a power of two is exact however it is computed."""
    found = [graph_of("a", *units).steps for units in ((1,), (3,), (5,), (4,), (64,))]
    narrow, first, wider, even, large = [steps.structure for steps in found if steps]
    assert first == wider
    assert even == large
    assert len({narrow, first, even}) == 3


class Races:
    """Stands in for timing: what each graph would take, and which were compiled.

    Args:
        timings: by the graph's key.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **timings: Timing) -> None:
        self.compiled: list[str] = []
        self.records: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self._timings = timings
        monkeypatch.setattr(xla_choice, "_Race", self._start)

    def wants_xla(self, graph: Graph, kinds: Kinds, steps: int, sharers: int = 1) -> bool:
        plan = Plan(steps, 8, lambda enough, wait: sharers)
        return XlaChoice("auto", self.records.get, self._decide, plan, kinds).wants_xla(graph, IDLE)

    def _start(self, graph: Graph, material: Material) -> Any:
        timing = self._timings[graph.key]

        def run() -> Timing:
            self.compiled.append(graph.key)
            return timing

        return SimpleNamespace(plain_s=timing.plain_s, run=run)

    def _decide(self, key: str, value: Any, reason: str) -> Any:
        self.reasons[key] = reason
        return self.records.setdefault(key, value)


@pytest.mark.parametrize("same_trainer", [True, False])
def test_a_graph_is_compiled_only_if_its_gain_pays_for_what_its_kind_took(
    same_trainer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first graph of the kind teaches it, also the sweep's other trainers, through the records."""
    taught = Timing(plain_s=0.002, xla_s=0.0005, compile_s=5.0)
    races = Races(monkeypatch, a=taught, b=taught, c=Timing(0.010, 0.0025, 5.0))
    kinds = Kinds()
    assert races.wants_xla(graph_of("a", 3), kinds, steps=1000) is False  # 1.5 s for 5
    kinds = kinds if same_trainer else Kinds()
    assert races.wants_xla(graph_of("b", 5), kinds, steps=1000) is False
    assert races.compiled == ["a"]
    assert "save about 1.5 s" in races.reasons["xla:b"]
    assert "compiled in 5.0 s" in races.reasons["xla:b"]
    assert races.wants_xla(graph_of("c", 7), kinds, steps=1000) is True
    assert races.compiled == ["a", "c"]


def test_what_many_trials_share_is_compiled_although_it_would_not_pay_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taught, kinds = Timing(plain_s=0.002, xla_s=0.0005, compile_s=5.0), Kinds()
    races = Races(monkeypatch, a=taught, b=taught)
    assert races.wants_xla(graph_of("a", 3), kinds, steps=1000) is False
    assert races.wants_xla(graph_of("b", 5), kinds, steps=1000, sharers=4) is True


def test_a_graph_with_a_loop_takes_longer_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Timing(plain_s=0.002, xla_s=0.0001, compile_s=0.5)
    races = Races(monkeypatch, a=taught, b=taught)
    assert races.wants_xla(graph_of("a", 3), Kinds(), steps=1000) is True
    assert races.wants_xla(graph_of("b", recurrent=True), Kinds(), steps=1000) is False
    assert races.compiled == ["a"]


def test_a_loop_is_timed_without_other_calls() -> None:
    """The pause begins when the running call has ended, and no other begins before it is over."""
    made, entered, leave = Calls(), threading.Event(), threading.Event()
    happened: list[str] = []

    def call(name: str) -> None:
        with made.made(lambda: None):
            entered.set()
            assert leave.wait(60)
            happened.append(name)

    def late() -> None:
        with made.made(lambda: waits.release()):
            happened.append("late")

    waits = threading.Semaphore(0)
    first, second = threading.Thread(target=call, args=("early",)), threading.Thread(target=late)
    first.start()
    assert entered.wait(60)
    with made.paused(leave.set):
        second.start()
        assert waits.acquire(timeout=60)
        happened.append("timed")
    first.join(60)
    second.join(60)
    assert happened == ["early", "timed", "late"]


def test_a_call_without_end_does_not_keep_others_from_being_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_WITHIN_S", 0.0)
    made = Calls()
    with made.made(lambda: None), made.paused(lambda: None):
        pass


def test_who_is_stopped_while_it_waits_to_time_holds_nobody_back() -> None:
    made = Calls()

    def stopped() -> None:
        raise InterruptedError

    with made.made(lambda: None), pytest.raises(InterruptedError), made.paused(stopped):
        pass
    with made.made(stopped):  # need not wait
        pass


@pytest.mark.parametrize("on_record", [False, True])
def test_a_kind_that_xla_refused_is_not_tried_again(on_record: bool) -> None:
    graph, kinds, made = graph_of("a", 3), Kinds(), list[tuple[str, bool, str]]()
    kind = kinds.of(graph)
    kind.spoiled = not on_record
    records = {f"xla of a kind:{kind.key}": False} if on_record else {}

    def decide(key: str, value: bool, reason: str) -> bool:
        made.append((key, value, reason))
        return value

    plan = Plan(10_000, 8, lambda enough, wait: 8)
    assert XlaChoice("auto", records.get, decide, plan, kinds).wants_xla(graph, IDLE) is False
    [(key, value, reason)] = made
    assert (key, value) == ("xla:a", False)
    assert "not tried again" in reason


@pytest.mark.parametrize("faithful", [True, False])
def test_single_steps_are_tried_once_for_a_kind_and_kept_where_a_loop_has_other_bits(
    faithful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    monkeypatch.setattr(graphs, "loop_is_faithful", lambda *found: tried.append(found) or faithful)
    rows: Any = tf.constant(np.zeros((8, 4), np.float32))
    model: Any = None  # its graph is traced already
    nothing = lambda: None  # noqa: E731
    material = Material(model, nothing, nothing, rows, Cut(8, 8, ordered=False), None, None)
    kinds = Kinds()
    for graph in (graph_of("a", 3), graph_of("b", 5)):
        assert graph.steps is not None
        loops = graph.loops(False, material)
        found = graph.faithful_loops(loops, material, graph.steps.captures, kinds.of(graph))
        assert (found is loops) is faithful
        assert (graph._singles is None) is faithful
    assert len(tried) == 1


def test_a_moment_without_a_core_does_not_decide() -> None:
    stalls = iter([0.2])

    def run(steps: int) -> None:
        time.sleep(next(stalls, 0.0) + 0.0001 * steps)

    assert Stopwatch(run, most=256).per_step() < 0.05


def test_a_state_that_the_steps_refuse_fails_nothing() -> None:
    """Loops are compared from random states too, which an assertion or a decomposition may refuse."""
    model, total = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), tf.Variable(0.0)
    model.compile("sgd", "mse")
    data, cut = tf.ones((8, 4)), Cut(8, 8, ordered=True)

    def step(batch: Any) -> Any:
        tf.debugging.assert_less(total, 0.01)
        total.assign_add(1e-6 * tf.reduce_sum(batch))
        return {"total": total.read_value()}

    traced = trace_step(model, step, data, cut)
    ways = [Computation(Loop(traced, data, cut, False, single), None, traced.captures) for single in (0, 1)]
    assert loop_is_faithful(*ways, data, None)
    assert [] in ways[0].outcomes(data, None, states=3)
    assert total.numpy() == 0

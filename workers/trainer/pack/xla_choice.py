"""Whether XLA compiles a sweep's graphs: measured once, on copies of the variables, and then kept.

XLA and plain graphs round differently, so every attempt of a sweep must compute the same way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.graph.graphs import Graph, Kind, Kinds, Loops, Material, Outlook, Timing
from kerasweep.workers.trainer.graph.sharing import copy_variable
from kerasweep.workers.trainer.graph.stepping import Loop

#: The approximate time spent on timing each variant.
_TIMED_S = 0.1
_ROUNDS = 4
#: The factor by which XLA must win: a tie is no reason to wait for a compiler.
_WORTH = 0.9
#: If one variant wins by this factor at first, the race is over.
_CLEAR = 1.6
#: The minimum time of compiling; a graph that takes less in all is not worth measuring.
_COMPILE_S = 1.0
#: The same for a graph with a loop in it, as recurrent layers have.
_COMPILE_LOOP_S = 3.0
#: Why a graph is not tried with XLA.
_SPOILED = "XLA did not work out for another graph of the same operations, so it is not tried again"
#: Why a kind's lesson is on record.
_LEARNED_NOT = "graphs of the same operations are not tried with XLA again"
_LEARNED = (
    "steps with XLA as a multiple of those without, and seconds to compile, in graphs of the same operations"
)
#: What TensorFlow raises if XLA lacks a form of an operation, or one of its shapes.
_REFUSALS = (tf.errors.OpError, ValueError)

#: Binds the sweep to a choice, unless one is recorded: (key, value, reason) -> the one that binds.
Decide = Callable[[str, Any, str], Any]


@dataclass(frozen=True)
class Plan:
    """How much a sweep has to train.

    Args:
        steps: of one trial, on average: a stopping rule ends some before their last epoch.
        trials: of the sweep.
        sharers: returns approximately how many of these have one graph; takes the number that is enough to
            know, and what is called while it waits.
    """

    steps: int
    trials: int
    sharers: Callable[[int, Callable[[], None]], int]


class XlaChoice:
    """Decides for one run's sweep.

    Args:
        wanted: `training.xla`: true, false, or auto.
        known: returns what the sweep's records hold under a key so far; None for nothing.
        decide: records a choice.
        plan: what the sweep trains.
        kinds: what this process knows of graphs like it.
    """

    def __init__(
        self, wanted: bool | str, known: Callable[[str], Any], decide: Decide, plan: Plan, kinds: Kinds
    ) -> None:
        self._wanted = wanted
        self._known = known
        self._decide = decide
        self._plan = plan
        self._kinds = kinds

    def __call__(self, graph: Graph, material: Material) -> Loops:
        """Return the loops to train a graph with.

        Raises:
            JobError: `training.xla` is true, and XLA cannot compile the graph.
        """
        if self._wanted is True:
            return _forced(graph, material)
        return graph.loops(self.wants_xla(graph, material), material)

    def wants_xla(self, graph: Graph, material: Material) -> bool:
        """Return the decision for the graph's family, measuring if there is none yet."""
        if self._wanted != "auto":
            return bool(self._wanted)
        name = f"xla:{graph.family.key}"
        known = self._known(name)
        if known is None:
            with graph.family.held(material.wait):
                known = self._known(name)  # another graph of the family may have been first
                if known is None:
                    worth, why = self._measure(graph, material)
                    told = f"trials of this graph train {'with' if worth else 'without'} XLA; {why}"
                    known = bool(self._decide(name, worth, told))
        return bool(known)

    def _measure(self, graph: Graph, material: Material) -> tuple[bool, str]:
        """Return whether XLA is worth it, and why."""
        timing = graph.family.timing
        if timing is not None:
            refused = self._refuse_short(graph, timing.plain_s, material)
            return refused or self._judge(graph, timing, material)
        kind = self._kinds.of(graph)
        if self._recall(kind).spoiled:
            return False, _SPOILED
        race = _Race(graph, material)
        refused = self._refuse_short(graph, race.plain_s, material)
        if refused:
            return refused
        with kind.held(material.wait):  # until the first graph of a kind has taught what to expect of others
            refused = self._refuse_kind(kind, race.plain_s, material)
            if refused:
                return refused
            timing = graph.family.timing = race.run()
            self._learn(kind, timing)
        return self._judge(graph, timing, material)

    def _refuse_short(self, graph: Graph, plain_s: float, material: Material) -> tuple[bool, str] | None:
        """Refuse what takes less time than compiling it."""
        worth, sharers = self._pays(plain_s, _least_s(graph), material)
        if worth:
            return None
        what = "the whole sweep takes" if sharers == self._plan.trials else "the trials of one graph take"
        spent_s = plain_s * self._plan.steps * sharers
        return False, f"{what} about {spent_s:.1f} s without XLA: not worth compiling"

    def _refuse_kind(self, kind: Kind, plain_s: float, material: Material) -> tuple[bool, str] | None:
        """Refuse what does not pay, by another graph of the kind."""
        outlook = self._recall(kind).outlook
        if kind.spoiled:
            return False, _SPOILED
        if outlook is None:
            return None
        saved_s = plain_s * max(0.0, 1 - outlook.ratio)
        worth, sharers = self._pays(saved_s, outlook.compile_s, material) if saved_s else (False, 1)
        if worth:
            return None
        saved = f"XLA would save about {saved_s * self._plan.steps * sharers:.1f} s"
        like = f"a graph of the same operations that it compiled in {outlook.compile_s:.1f} s"
        return False, f"{saved}, judging by {like}"

    def _judge(self, graph: Graph, timing: Timing, material: Material) -> tuple[bool, str]:
        """Return whether XLA is worth it for a graph that has been timed, and why."""
        if timing.refusal:
            return False, f"XLA cannot compile it: {timing.refusal}"
        figures = f"{timing.xla_s * 1e6:.0f} µs per step with XLA, {timing.plain_s * 1e6:.0f} µs without"
        worth = timing.xla_s < _WORTH * timing.plain_s
        # asked anew: more trials may have told their graphs while this one was timed
        _, sharers = self._pays(timing.plain_s, _least_s(graph), material)
        if worth and sharers < self._plan.trials:  # others have graphs that must be compiled too
            worth, _ = self._pays(timing.plain_s - timing.xla_s, timing.compile_s, material)
        return worth, f"{figures}; compiled in {timing.compile_s:.1f} s"

    def _recall(self, kind: Kind) -> Kind:
        """Return the kind with what the records know of it."""
        known = self._known(_record_of(kind))
        if known is False:
            kind.spoiled = True
        elif known is not None and kind.outlook is None:
            kind.outlook = Outlook(*known)
        return kind

    def _learn(self, kind: Kind, timing: Timing) -> None:
        """Keep what a timing teaches of other graphs, for other trainers as well."""
        if timing.refusal or timing.xla_s > _CLEAR * timing.plain_s:
            kind.spoiled = True
            self._decide(_record_of(kind), False, _LEARNED_NOT)
            return
        kind.outlook = Outlook(round(timing.xla_s / timing.plain_s, 3), round(timing.compile_s, 1))
        self._decide(_record_of(kind), [kind.outlook.ratio, kind.outlook.compile_s], _LEARNED)

    def _pays(self, step_s: float, cost_s: float, material: Material) -> tuple[bool, int]:
        """Return whether the trials of one graph take at least this long in all, and how many they are.

        If the whole sweep does not, their number within it is not determined.
        """
        enough = math.ceil(cost_s / (step_s * self._plan.steps))
        if enough > self._plan.trials:
            return False, self._plan.trials
        sharers = self._plan.sharers(enough, material.wait)
        return sharers >= enough, sharers


def _record_of(kind: Kind) -> str:
    return f"xla of a kind:{kind.key}"


def _least_s(graph: Graph) -> float:
    assert graph.steps is not None
    return _COMPILE_LOOP_S if graph.steps.has_loop else _COMPILE_S


class _Race:
    """Times a graph without XLA, and then with it, while no other packed trial makes steps.

    Args:
        graph: whose first model is copied.
        material: the data.
    """

    def __init__(self, graph: Graph, material: Material) -> None:
        self._graph, self._material = graph, material
        self._copies = _Copies(graph, material)
        self._plain = self._copies.stopwatch(graph.loops(False, material))
        self._plain.start()
        with material.quiet():
            self.plain_s = self._plain.per_step()

    def run(self) -> Timing:
        """Compile the graph with XLA, and time both alternately until one clearly wins."""
        started_s = time.perf_counter()
        try:
            loops = self._graph.loops(True, self._material)
            self._copies.try_out(loops)
        except _REFUSALS as exc:
            return Timing(self.plain_s, math.inf, 0.0, _line(exc))
        compile_s = time.perf_counter() - started_s
        with self._material.quiet():
            plain_s, xla_s = _race(self.plain_s, self._plain, self._copies.stopwatch(loops))
        return Timing(plain_s, xla_s, compile_s)


def try_out(graph: Graph, material: Material, xla: bool) -> Loops:
    """Return loops that are compiled and have run, on copies of the model's variables.

    Raises:
        OpError, ValueError: XLA cannot compile one.
    """
    loops = graph.loops(xla, material)
    _Copies(graph, material).try_out(loops)
    return loops


def _forced(graph: Graph, material: Material) -> Loops:
    try:
        return try_out(graph, material, xla=True)
    except _REFUSALS as exc:
        rule = "training.xla must be auto or false for this model, got true"
        raise JobError(FailureClass.USER, f"{rule}; XLA cannot compile it: {_line(exc)}") from exc


class Stopwatch:
    """Times a loop.

    Args:
        run: makes a number of steps, and waits for them to finish.
        most: maximum steps at once.
    """

    def __init__(self, run: Callable[[int], None], most: int) -> None:
        self._run, self._most = run, most
        self._steps = 1

    def start(self) -> None:
        """Make one step, which compiles the loop."""
        self._run(1)

    def per_step(self) -> float:
        """Return seconds per step, over enough steps for a reliable timing.

        The best of two timings: a moment in which another process has the core must not decide.
        """
        while True:
            spent_s = self._timed_s()
            if spent_s > _TIMED_S / 2 or self._steps >= self._most:
                spent_s = min(spent_s, self._timed_s())
            if spent_s > _TIMED_S / 2 or self._steps >= self._most:
                return spent_s / self._steps
            wanted = int(self._steps * _TIMED_S / max(spent_s, 1e-6))
            self._steps = min(self._most, max(self._steps * 2, wanted))

    def _timed_s(self) -> float:
        started_s = time.perf_counter()
        self._run(self._steps)
        return time.perf_counter() - started_s


def _race(plain_s: float, plain: Stopwatch, xla: Stopwatch) -> tuple[float, float]:
    """Time both alternately until one clearly wins; return the best seconds per step of each."""
    xla_s = xla.per_step()
    for _ in range(_ROUNDS - 1):
        if max(plain_s, xla_s) > _CLEAR * min(plain_s, xla_s):
            break
        plain_s, xla_s = min(plain_s, plain.per_step()), min(xla_s, xla.per_step())
    return plain_s, xla_s


class _Copies:
    """Copies of a graph's variables to try programs on; captures that are not variables are only read, and
    shared.

    Args:
        graph: whose first model is copied.
        material: the data.
    """

    def __init__(self, graph: Graph, material: Material) -> None:
        assert graph.steps is not None
        self._variables: list[tf.Variable] = []
        self._handles = [self._copy(capture) for capture in graph.steps.captures]
        self._material = material

    def stopwatch(self, loops: Loops) -> Stopwatch:
        """Return a stopwatch for the training loop."""
        loop = loops.train
        return Stopwatch(lambda steps: self._run_train(loop, 0, steps), loop.cut.whole)

    def try_out(self, loops: Loops) -> None:
        """Make the first and the last step of each loop, compiling them at the same time if necessary.

        Raises:
            OpError, ValueError: XLA cannot compile one.
        """
        with ThreadPoolExecutor(1) as beside:
            tested = None if loops.test is None else beside.submit(self._try_test, loops.test)
            last = loops.train.cut.steps
            self._run_train(loops.train, 0, 1)
            self._run_train(loops.train, last - 1, last)
            if tested is not None:
                tested.result()

    def _try_test(self, loop: Loop) -> None:
        handles, data = self._handles[len(self._handles) - loop.captures :], self._material.validation
        last = loop.cut.steps
        numbers = self._material.test_numbers
        loop.run(handles, data, None, 0, 1, numbers)
        loop.run(handles, data, None, last - 1, last, numbers)

    def _run_train(self, loop: Loop, start: int, stop: int) -> None:
        order = tf.constant(np.arange(loop.cut.rows))
        handles, material = self._handles[: loop.captures], self._material
        loop.run(handles, material.train, order, start, stop, material.train_numbers)
        if self._variables:
            self._variables[0].numpy()  # on a GPU, calls return before they are done

    def _copy(self, capture: tf.Tensor) -> tf.Tensor:
        copy = copy_variable(capture)
        if copy is None:
            return capture
        self._variables.append(copy)
        return copy.handle


def _line(exc: BaseException) -> str:
    """Return the first line of an error's message."""
    lines = str(exc).strip().splitlines()
    return lines[0][:200] if lines else type(exc).__name__

"""A model's own step, traced once, and loops over it that train or validate many batches in one call.

A loop is called with the handles of a model's variables as its captured inputs. So one compiled loop serves
every model that has the same graph: nothing is traced, compiled or copied for the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from kerasweep.workers.trainer.graph.lifting import LiftedFunction, own_name

#: A loop stops after at most this many steps, so that the host hears of it and may stop the run.
Handles = Sequence[tf.Tensor]
Tensors = Sequence[tf.Tensor]


@dataclass(frozen=True)
class Cut:
    """How rows are divided into batches.

    Args:
        rows: the number of rows.
        batch: rows in a batch.
        ordered: whether they are taken in a given order, or as stored.
    """

    rows: int
    batch: int
    ordered: bool

    @property
    def whole(self) -> int:
        """The number of full batches; data smaller than one batch counts as one smaller full batch."""
        return max(1, self.rows // self.batch)

    @property
    def size(self) -> int:
        """Rows in a full batch."""
        return min(self.rows, self.batch)

    @property
    def rest(self) -> int:
        """Rows in the last, partial batch; 0 if there is none."""
        return self.rows - self.whole * self.size

    @property
    def steps(self) -> int:
        """The total number of batches."""
        return self.whole + (self.rest > 0)

    @property
    def traced_rows(self) -> int | None:
        """The batch's first dimension as `fit` traces it: unknown if the last batch is partial.

        Keras' own graphs differ between the two (individual losses are averaged differently), so the same
        bits require the same shape.
        """
        return None if self.rest else self.size


@dataclass(frozen=True)
class Step:
    """A traced `train_step` or `test_step`.

    Args:
        function: from one batch to the step's logs.
        captures: what else it reads and writes: mostly handles of variables.
        keeps_logs: whether the last step's logs are kept, because they are not metrics of the model, or
            because the step is the job's own.
        variables: those of the traced model. TensorFlow refuses to build on a function whose variables are
            gone, and a loop may be needed long after the traced trial.
        lifted: the same function with some of its constants as arguments; None if they are constants.
    """

    function: Any
    captures: tuple[tf.Tensor, ...]
    keeps_logs: bool
    variables: tuple[tf.Variable, ...]
    lifted: LiftedFunction | None = None

    @property
    def numbers(self) -> tuple[tf.DType, ...]:
        """The dtypes of the constants that are arguments."""
        return self.lifted.dtypes if self.lifted else ()

    def make(self, batch: Any, numbers: Sequence[tf.Tensor]) -> Any:
        """Make the step in the graph being traced; return its logs."""
        if self.lifted is None:
            return self.function(batch)
        outputs = self.lifted([*tf.nest.flatten(batch), *self.captures], numbers)
        return tf.nest.pack_sequence_as(self.function.structured_outputs, outputs)


def trace_step(model: Any, step: Callable[[Any], Any], data: Any, cut: Cut) -> Step:
    """Trace a model's step for batches of the data, as `fit` would.

    Args:
        model: its owner.
        step: `model.train_step` or `model.test_step`.
        data: all rows, as tensors.
        cut: the division into batches.

    Raises:
        Exception: whatever the model's code raises.
    """
    specs = tf.nest.map_structure(
        lambda rows: tf.TensorSpec((cut.traced_rows, *rows.shape[1:]), rows.dtype), data
    )

    def one_step(batch: Any) -> Any:
        return step(batch)

    function = tf.function(one_step, autograph=False).get_concrete_function(specs)
    logs = function.structured_outputs
    known = isinstance(logs, dict) and set(logs) == set(model.get_metrics_result())
    # TensorFlow rewrites a step whose logs nobody takes otherwise than in `fit`, which takes them.
    of_keras = getattr(step, "__func__", None) in (keras.Model.train_step, keras.Model.test_step)
    fixed = all(output.shape.is_fully_defined() for output in function.outputs)
    keeps_logs = not known or (fixed and not of_keras)
    return Step(function, tuple(function.captured_inputs), keeps_logs, tuple(function.variables))


class Loop:
    """A step, over many batches, in one compiled call.

    Args:
        step: traced.
        data: all rows, as tensors; only their shapes and dtypes are kept.
        cut: the division into batches.
        xla: whether XLA compiles it.
        single: whether each step is a call of its own, as in `fit`. TensorFlow may rewrite sums within a
            loop otherwise than outside of it, and round them otherwise.
    """

    def __init__(self, step: Step, data: Any, cut: Cut, xla: bool, single: bool = False) -> None:
        self.cut = cut
        self._step = step
        self._structure = tf.nest.map_structure(lambda _: None, data)
        # XLA needs static shapes, so a partial batch is a separate program there.
        self._static = cut.rest == 0 or xla
        self._single = single
        self._many = self._compile(self._run_one if single else self._run_many, data, xla)
        self._last = self._compile(self._run_last, data, xla) if cut.rest and xla else None

    @property
    def captures(self) -> int:
        """The number of handles it takes."""
        return len(self._step.captures)

    def run(
        self,
        handles: Handles,
        data: Any,
        order: tf.Tensor | None,
        start: int,
        stop: int,
        numbers: Sequence[tf.Tensor] = (),
    ) -> Any:
        """Make the steps from `start` to before `stop` of an epoch.

        Args:
            handles: replace the traced step's captures, one for each.
            data: all rows, as tensors.
            order: int64[rows], if the cut is ordered.
            start: from 0.
            stop: at most `cut.steps`.
            numbers: the lifted constants, as scalars.

        Returns:
            The last step's logs, if kept; else None.
        """
        logs = None
        if self._single:
            for at in range(start, stop):
                logs = self._call(self._many, handles, data, order, numbers, at, at + 1)
            return logs if self._step.keeps_logs else None
        whole = min(stop, self.cut.whole) if self._last else stop
        if start < whole:
            logs = self._call(self._many, handles, data, order, numbers, start, whole)
        if whole < stop:
            logs = self._call(self._last, handles, data, order, numbers, whole, stop)
        return logs

    def _call(
        self,
        function: Any,
        handles: Handles,
        data: Any,
        order: tf.Tensor | None,
        numbers: Sequence[tf.Tensor],
        *bounds: int,
    ) -> Any:
        concrete, places = function
        arguments = [] if order is None else [order]
        with tf.device("CPU:0"):
            arguments += [tf.constant(bound, tf.int32) for bound in bounds]
        # The public call binds the captures of the traced model; this is the only way to bind others.
        arguments += [*tf.nest.flatten(data), *numbers]
        return concrete._call_flat(arguments, [handles[place] for place in places])

    def _compile(self, function: Callable[..., Any], data: Any, xla: bool) -> tuple[Any, tuple[int, ...]]:
        orders = [tf.TensorSpec((self.cut.rows,), tf.int64)] if self.cut.ordered else []
        bounds = [tf.TensorSpec((), tf.int32)] * 2
        rows = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tf.nest.flatten(data)]
        concrete = tf.function(function, autograph=False, jit_compile=xla or None).get_concrete_function(
            *orders, *bounds, *rows, *(tf.TensorSpec((), dtype) for dtype in self._step.numbers)
        )
        places = {id(capture): place for place, capture in enumerate(self._step.captures)}
        return concrete, tuple(places[id(capture)] for capture in concrete.captured_inputs)

    def _run_many(self, *arguments: tf.Tensor) -> Any:
        order, start, stop, rows, numbers = self._read(arguments)
        kept = self._no_logs()
        _, *kept = tf.while_loop(
            lambda at, *_: at < stop,
            lambda at, *_: (at + 1, *self._make_step(order, at, rows, numbers, self.cut.size)),
            [start, *kept],
            shape_invariants=[tf.TensorShape(()), *(tensor.shape for tensor in kept)],
            parallel_iterations=1,
        )
        return self._pack_logs(kept)

    def _run_one(self, *arguments: tf.Tensor) -> Any:
        order, start, _, rows, numbers = self._read(arguments)
        return self._make_logs(order, start, rows, numbers, self.cut.size)

    def _run_last(self, *arguments: tf.Tensor) -> Any:
        order, start, _, rows, numbers = self._read(arguments)
        return self._pack_logs(self._make_step(order, start, rows, numbers, self.cut.rest))

    def _read(self, arguments: Sequence[tf.Tensor]) -> tuple[Any, tf.Tensor, tf.Tensor, Tensors, Tensors]:
        rest = list(arguments)
        order = rest.pop(0) if self.cut.ordered else None
        numbers = len(rest) - len(self._step.numbers)
        return order, rest[0], rest[1], rest[2:numbers], rest[numbers:]

    def _make_step(
        self, order: Any, at: tf.Tensor, rows: Tensors, numbers: Tensors, size: int
    ) -> list[tf.Tensor]:
        logs = self._make_logs(order, at, rows, numbers, size)
        return tf.nest.flatten(logs) if self._step.keeps_logs else []

    def _make_logs(self, order: Any, at: tf.Tensor, rows: Tensors, numbers: Tensors, size: int) -> Any:
        first = at * self.cut.size
        count = size if self._static else tf.minimum(size, self.cut.rows - first)
        if order is not None:
            chosen = tf.slice(order, [first], [count])
            batch = [tf.gather(tensor, chosen) for tensor in rows]
        else:
            batch = [
                tf.slice(tensor, [first, *[0] * (tensor.shape.rank - 1)], [count, *tensor.shape[1:]])
                for tensor in rows
            ]
        if not self._static:
            batch = [_of_unknown_rows(tensor) for tensor in batch]
        return self._step.make(tf.nest.pack_sequence_as(self._structure, batch), numbers)

    def _no_logs(self) -> list[tf.Tensor]:
        if not self._step.keeps_logs:
            return []
        outputs = tf.nest.flatten(self._step.function.structured_outputs)
        return [tf.zeros([size or 0 for size in output.shape], output.dtype) for output in outputs]

    def _pack_logs(self, flat: Sequence[tf.Tensor]) -> Any:
        if not self._step.keeps_logs:
            return None
        return tf.nest.pack_sequence_as(self._step.function.structured_outputs, list(flat))


def _of_unknown_rows(tensor: tf.Tensor) -> tf.Tensor:
    """Hide where a batch comes from: an iterator, as `fit` has one, does not tell TensorFlow that inputs and
    targets have equally many rows, which it would use to rewrite operations on both.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tensor, shape=(None, *tensor.shape[1:]))


#: Operations that draw; their fourth input is the algorithm.
_DRAWS = frozenset(
    {
        "StatelessRandomNormalV2",
        "StatelessRandomUniformFullIntV2",
        "StatelessRandomUniformIntV2",
        "StatelessRandomUniformV2",
        "StatelessTruncatedNormalV2",
    }
)
_ALGORITHM = 3
#: As TensorFlow counts them.
_THREEFRY, _LEFT_OPEN = 2, 3


def with_fast_draws(step: Step) -> Step:
    """Return a step whose draws name ThreeFry wherever the algorithm was left open, for XLA on a CPU.

    XLA's own choice there is slow: 1,325 µs for 2,048 numbers in a bare loop, and ThreeFry takes 8. The
    numbers depend on the seed's state alone, as before.
    """
    definition = type(step.function.function_def)()
    definition.CopyFrom(step.function.function_def)
    algorithms = _left_open(definition)
    if not algorithms or step.lifted is not None:
        return step
    for node in algorithms:
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(_THREEFRY, tf.int32))
    definition.signature.name = own_name(definition, "drawn")
    context.context().add_function_def(definition)
    outputs = tuple(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in step.function.outputs)
    return replace(step, lifted=LiftedFunction(definition.signature.name, (), (), outputs))


def _left_open(definition: Any) -> list[Any]:
    """Return the constants that leave the algorithm of draws open, and are nothing else's."""
    nodes = {node.name: node for node in definition.node_def}
    uses: dict[str, set[bool]] = defaultdict(set)
    for node in definition.node_def:
        for place, name in enumerate(node.input):
            uses[name.lstrip("^").partition(":")[0]].add(node.op in _DRAWS and place == _ALGORITHM)
    return [nodes[name] for name, only in uses.items() if only == {True} and _is_left_open(nodes.get(name))]


def _is_left_open(node: Any) -> bool:
    return (
        node is not None
        and node.op == "Const"
        and int(tf.make_ndarray(node.attr["value"].tensor)) == _LEFT_OPEN
    )

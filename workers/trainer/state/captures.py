"""What a model's steps read and write beyond the variables listed by the model and its optimizers.

A `tf.Variable` kept as an attribute, the states of a stateful RNN, an optimizer in a dict, a module-level
seed generator, Keras' own global generator: a traced step captures the handle of each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasweep.jobs.errors import Damaged
from kerasweep.workers.trainer.graph.fingerprint import every_node, unkept_state
from kerasweep.workers.trainer.state.digest import optimizers_of, replicas_of

_STEPS = ("train_step", "test_step")
_PYTHON = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})
#: Makes the context in which a step, by its name, is traced.
Tracing = Callable[[str], AbstractContextManager[None]]


def _as_it_is(_: str) -> AbstractContextManager[None]:
    return nullcontext()


class StepState:
    """The variables that a run's steps capture, known once the steps are traced."""

    def __init__(self) -> None:
        self._captures: dict[str, tuple[tf.Tensor, ...]] = {}
        #: Traced operations with state of their own.
        self.unkept: set[str] = set()

    def learn(self, step: str, captures: Sequence[tf.Tensor]) -> None:
        """Record what a traced step captures.

        Args:
            step: `train_step` or `test_step`.
            captures: in the order of the trace, which is the same in every process.
        """
        self._captures[step] = tuple(captures)

    def forget_traces(self) -> None:
        """Let the next trace of each step tell all that it captures."""
        self._captures = {}

    def beyond(self, model: keras.Model) -> list[tf.Tensor]:
        """Return the handles of the variables that neither the model nor its optimizers list, in order.

        Metrics that the model resets before each epoch, and loss weights that were numbers, are not state.
        """
        seen = {id(one.handle) for variable in _listed(model) for one in replicas_of(variable)}
        found = []
        for step in _STEPS:
            for capture in self._captures.get(step, ()):
                if id(capture) not in seen and is_variable(capture):
                    seen.add(id(capture))
                    found.append(capture)
        return found

    @contextmanager
    def listening(self, model: keras.Model, tracing: Tracing = _as_it_is) -> Iterator[None]:
        """Learn from the traces that Keras makes of the model's steps meanwhile.

        Args:
            model: compiled.
            tracing: what each step is traced within.
        """
        own = {name: vars(model).get(name) for name in _STEPS}
        for name in _STEPS:
            object.__setattr__(model, name, self._heard(name, getattr(model, name), tracing))
        try:
            yield
        finally:
            for name, step in own.items():
                if step is None:
                    object.__delattr__(model, name)
                else:
                    object.__setattr__(model, name, step)

    def trace(
        self,
        model: keras.Model,
        batches: Mapping[str, Any],
        strategy: Any | None,
        tracing: Tracing = _as_it_is,
    ) -> None:
        """Trace the steps only for their captures; optimizers and layers that they build are built.

        Args:
            model: compiled.
            batches: the input of each step to trace, by its name, as `tf.TensorSpec`.
            strategy: the distribution strategy, or None.
            tracing: what each step is traced within.

        Raises:
            Exception: whatever the model's code raises.
        """
        if strategy is not None:
            with strategy.scope():
                model._symbolic_build(
                    data_batch=batches["train_step"]
                )  # metrics cannot be built in a step on several devices
        for name, batch in batches.items():
            step = self._heard(name, getattr(model, name), tracing)
            if strategy is not None:
                step = functools.partial(_on_each, strategy, step)
            tf.function(step, autograph=False).get_concrete_function(batch)

    def _heard(self, name: str, step: Callable[[Any], Any], tracing: Tracing) -> Callable[[Any], Any]:
        def one_step(data: Any) -> Any:
            with nullcontext() if tf.executing_eagerly() else tracing(name):
                logs = step(data)
            graph = tf.compat.v1.get_default_graph()
            if not tf.executing_eagerly():
                self.learn(name, [external for external, _ in graph.captures])
                self.unkept.update(unkept_state(graph))
            return logs

        return one_step


def _on_each(strategy: Any, step: Callable[[Any], Any], data: Any) -> Any:
    return strategy.run(step, args=(data,))


def is_variable(capture: Any) -> bool:
    """Tell whether a captured tensor is the handle of a variable."""
    data = getattr(capture, "_handle_data", None)
    return capture.dtype == tf.resource and data is not None and data.is_set and bool(data.shape_and_type)


def read_handle(handle: Any) -> NDArray[Any]:
    """Return a variable's value."""
    dtype = tf.dtypes.as_dtype(handle._handle_data.shape_and_type[0].dtype)
    return np.array(tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype).numpy())


def write_handle(handle: Any, value: NDArray[Any]) -> None:
    """Assign a value to a variable of its dtype and shape."""
    tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value))


def describe_handle(handle: Any) -> str:
    """Describe dtype and shape of what a handle points to."""
    kind = handle._handle_data.shape_and_type[0]
    return f"{tf.dtypes.as_dtype(kind.dtype).name} {tf.TensorShape(kind.shape)}"


def pair_handles(
    handles: Sequence[Any], contents: Sequence[Mapping[str, Any]], arrays: Sequence[NDArray[Any]]
) -> list[tuple[Any, NDArray[Any]]]:
    """Pair handles with their values in a checkpoint.

    Raises:
        Damaged: they are not those that were saved.
    """
    found, saved = [describe_handle(handle) for handle in handles], [content["is"] for content in contents]
    if found != saved:
        raise Damaged(
            f"the checkpoint belongs to other steps: it has captured {saved}, the steps capture {found}"
        )
    return [(handle, arrays[content["array"]]) for handle, content in zip(handles, contents, strict=True)]


def _listed(model: keras.Model) -> Iterator[Any]:
    yield from model.variables
    for optimizer in optimizers_of(model):
        yield from optimizer.variables
    yield from model.metrics_variables
    for loss in getattr(model._compile_loss, "_flat_losses", None) or ():
        if isinstance(loss.loss_weights, tf.Variable):
            yield loss.loss_weights


class Pipelines:
    """The variables that the functions of `tf.data` pipelines read and write, such as a random layer's seeds.

    Args:
        datasets: those of a run; a `PyDataset` has none.
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.handles: list[tf.Tensor] = []
        seen: set[int] = set()
        for dataset in datasets:
            for one in _stages(dataset):
                for capture in _captures_of(one):
                    if is_variable(capture) and id(capture) not in seen:
                        seen.add(id(capture))
                        self.handles.append(capture)
        self._first = [read_handle(handle) for handle in self.handles]

    @contextmanager
    def rewound(self, keep: bool = False) -> Iterator[None]:
        """Reset the variables to their initial values meanwhile, for reading data again.

        Args:
            keep: keep the values left by the reading: an iterator that continues has read ahead.
        """
        now = [read_handle(handle) for handle in self.handles]
        self._write(self._first)
        yield
        if not keep:
            self._write(now)

    def _write(self, values: Sequence[NDArray[Any]]) -> None:
        for handle, value in zip(self.handles, values, strict=True):
            write_handle(handle, value)


def has_cache(dataset: Any) -> bool:
    """Tell whether a `tf.data` pipeline caches what it reads first."""
    return any("Cache" in type(one).__name__ for one in _stages(dataset))


def has_python(dataset: Any) -> bool:
    """Tell whether a `tf.data` pipeline calls Python, as `from_generator` and `numpy_function` do."""
    return any(
        node.op in _PYTHON
        for one in _stages(dataset)
        for wrapper in one._functions()
        for node in every_node(wrapper.function.graph.as_graph_def())
    )


def _stages(dataset: Any) -> Iterator[Any]:
    """Yield a pipeline's datasets, its sources last."""
    if isinstance(dataset, tf.data.Dataset):
        yield dataset
        for one in dataset._inputs():
            yield from _stages(one)


def _captures_of(stage: Any) -> Iterator[Any]:
    for wrapper in stage._functions():
        yield from wrapper.function.captured_inputs

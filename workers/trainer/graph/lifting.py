"""Lifts constants out of traced steps, so that graphs that differ only in these share one program.

A dropout rate, a momentum, a penalty or a label smoothing is a constant of a traced graph. If two traces of
one family differ in such numbers, these become arguments: each as computed, since a rate that is a tensor
would get its scale in another precision than a Python number. Which constant belongs to which value of the
model's configuration is learned from the traces: whatever they do not explain is traced again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.eager import context

from kerasweep.workers.trainer.graph.folding import ConstantGraph

#: The ways in which Keras turns a number of its configuration into a constant.
_FORMS: tuple[Callable[[float], float], ...] = (
    lambda value: value,
    lambda value: 1.0 - value,
    lambda value: 1.0 / (1.0 - value),
    lambda value: -value,
    lambda value: 2.0 * value,
    lambda value: value / 2.0,
    lambda value: 1.0 / value,
    lambda value: 1.0 + value,
    lambda value: value * value,
)
_LARGEST_DIVISOR = 10_000
_NAMES = itertools.count()

#: The numbers of a trace's constants, each in its own dtype, by position.
Constants = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Example:
    """One trace: the numbers of the model's configuration, and those of its constants.

    Args:
        config: floats of the configuration in a fixed order; None if the model has no complete one.
        constants: every constant that is a single float, in the graph's order.
        rest: a key of all else in the graph.
    """

    config: tuple[float, ...] | None
    constants: Constants
    rest: str = ""


@dataclass(frozen=True)
class LiftedFunction:
    """A traced function with some of its constants as arguments after its captures.

    Args:
        name: its name in TensorFlow.
        used: which of the requested positions are arguments.
        dtypes: of these.
        outputs: the dtypes and shapes of its return values.
    """

    name: str
    used: tuple[int, ...]
    dtypes: tuple[tf.DType, ...]
    outputs: tuple[tf.TensorSpec, ...]

    def __call__(self, arguments: Sequence[tf.Tensor], numbers: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Call it while another function is traced; arguments are the batch's tensors, then the captures."""
        found = tf.raw_ops.StatefulPartitionedCall(
            args=[*arguments, *numbers],
            Tout=[spec.dtype for spec in self.outputs],
            f=self.name,
        )
        found = list(found) if isinstance(found, (list, tuple)) else []
        for tensor, spec in zip(found, self.outputs, strict=True):
            tensor.set_shape(spec.shape)
        return found


def constants_of(function: Any) -> Constants:
    """Return the single floats among a traced function's constants, and those folded from them, in order."""
    return tuple(ConstantGraph(function.function_def).numbers.values())


def lift(function: Any, places: Sequence[int]) -> LiftedFunction | None:
    """Turn constants of a traced function into arguments.

    Args:
        function: concrete.
        places: positions in `constants_of(function)`; those used only by folded ones are skipped.

    Returns:
        None if TensorFlow rewrites an operation that uses one of them, so that its bits would change.
    """
    definition = type(function.function_def)()
    definition.CopyFrom(function.function_def)
    graph = ConstantGraph(definition)
    names = [name for at, name in enumerate(graph.numbers) if at in set(places)]
    used = tuple(at for at, name in enumerate(names) if graph.frontier(name))
    names = [names[at] for at in used]
    graph.arguments = frozenset(names)
    if not all(graph.may_be_lifted(name) for name in names):
        return None
    dtypes = tuple(tf.dtypes.as_dtype(graph.numbers[name].dtype) for name in names)
    _replace(definition, {name: f"lifted_{number}" for number, name in enumerate(names)}, dtypes)
    context.context().add_function_def(definition)
    outputs = tuple(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in function.outputs)
    return LiftedFunction(definition.signature.name, used, dtypes, outputs)


def _replace(definition: Any, lifted: dict[str, str], dtypes: Sequence[tf.DType]) -> None:
    """Replace nodes of a function with arguments."""
    kept = [node for node in definition.node_def if node.name not in lifted]
    del definition.node_def[:]
    definition.node_def.extend(kept)
    for node in definition.node_def:
        inputs = [_renamed(name, lifted) for name in node.input]
        del node.input[:]
        node.input.extend(name for name in inputs if name)
    for output, name in definition.ret.items():
        definition.ret[output] = _renamed(name, lifted) or name
    for name, dtype in zip(lifted.values(), dtypes, strict=True):
        argument = definition.signature.input_arg.add()
        argument.name, argument.type = name, dtype.as_datatype_enum
    definition.signature.name = own_name(definition, "lifted")


def own_name(definition: Any, what: str) -> str:
    """Return a name that no function of this process has, for a changed copy of one."""
    return f"{definition.signature.name}_{what}_{next(_NAMES)}"


def differing(examples: Sequence[Example]) -> tuple[int, ...]:
    """Return the positions whose numbers differ between examples."""
    first = examples[0].constants
    return tuple(
        place
        for place in range(len(first))
        if any(not _same(one.constants[place], first[place]) for one in examples[1:])
    )


def explain(examples: Sequence[Example], config: tuple[float, ...]) -> Constants | None:
    """Return the constants of a model that was not traced, from its configuration; None if unknown.

    Args:
        examples: traces of its family.
        config: the numbers of its configuration.
    """
    known = [
        example for example in examples if example.config is not None and len(example.config) == len(config)
    ]
    if len(known) < 2 or not _varied(known, config):
        return None
    places = differing(known)
    found = list(known[0].constants)
    for place in places:
        values = {
            form(config).tobytes(): form(config)
            for form in _forms(known[0], place)
            if all(_fits(form, example, place) for example in known)
        }
        if len(values) != 1:
            return None
        [found[place]] = values.values()
    return tuple(found)


def _varied(examples: Sequence[Example], config: tuple[float, ...]) -> bool:
    """Tell whether each new number took several values in the traces, which showed its effect."""
    seen = [{example.config[at] for example in examples if example.config} for at in range(len(config))]
    return all(value in values or len(values) > 1 for value, values in zip(config, seen, strict=True))


Form = Callable[[tuple[float, ...]], NDArray[Any]]


def _forms(example: Example, place: int) -> Iterator[Form]:
    """Yield the ways in which a constant may follow from the configuration, given one example."""
    assert example.config is not None
    constant = example.constants[place]
    for at, value in enumerate(example.config):
        for form in _FORMS:
            yield _form(at, form, constant.dtype)
        divisor = value / float(constant) if constant else 0.0
        if 1.5 < divisor < _LARGEST_DIVISOR:
            yield _form(at, partial(_divided, by=round(divisor)), constant.dtype)
            yield _form(at, partial(_divided_as_float32, by=round(divisor)), constant.dtype)


def _divided(value: float, by: int) -> float:
    return value / by


def _divided_as_float32(value: float, by: int) -> float:
    return float(np.float32(value) / np.float32(by))


def _form(at: int, form: Callable[[float], float], dtype: Any) -> Form:
    def compute(config: tuple[float, ...]) -> NDArray[Any]:
        try:
            return np.asarray(form(config[at]), dtype)
        except (ZeroDivisionError, OverflowError):
            return np.asarray(np.nan, dtype)

    return compute


def _fits(form: Form, example: Example, place: int) -> bool:
    assert example.config is not None
    return _same(form(example.config), example.constants[place])


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.tobytes() == other.tobytes()


def _renamed(name: str, lifted: dict[str, str]) -> str:
    """Return an input with a lifted constant's name replaced; empty if it only ordered operations."""
    if name.startswith("^"):
        return "" if name[1:] in lifted else name
    return lifted.get(name.partition(":")[0], name)

"""The key of a traced step's computation: equal keys mean equal computation.

Names of nodes and functions contain process-wide counters (`dense_7`, `__inference_step_912`), so nodes are
identified by position and functions by content.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import tensorflow as tf

from kerasweep.workers.trainer.graph.graph_key import GraphKey, without_value
from kerasweep.workers.trainer.graph.stepping import Step

#: Attributes with names of functions or gradients, which do not affect the computation.
_ONLY_NAMES = frozenset({"_gradient_op_type", "_forward_func_name", "_backward_func_name", "_class"})
#: Operations that change a table, whose content no checkpoint holds.
_TABLES_CHANGED = frozenset({"LookupTableImportV2", "LookupTableInsertV2", "LookupTableRemoveV2"})
#: Stateful operations whose state is in their arguments, so that it moves with the trial.
_STATE_IS_HANDED = frozenset(
    {
        "Assert",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "Case",
        "CheckNumericsV2",
        "Empty",
        "If",
        "NoOp",
        "PartitionedCall",
        "Placeholder",
        "PrintV2",
        "ReadVariableOp",
        "RngReadAndSkip",
        "RngSkip",
        "StatefulPartitionedCall",
        "VarIsInitializedOp",
        "VariableShape",
        "While",
    }
)


class _Detail(Enum):
    """What the description of a graph contains."""

    ALL = "everything"
    NO_VALUES = "not the values of the step's own constants that are single floats, which can be lifted"
    NO_SIZES = "not sizes, apart from what TensorFlow rewrites: whether one is 1, or a power of two"
    SORTS = "neither these sizes nor numbers, of which only the sort matters to TensorFlow's rewriting"


def fingerprint(step: Step) -> GraphKey:
    """Return the key of a traced step's computation."""
    return GraphKey(_read(step, _Detail.ALL), _read(step, _Detail.NO_VALUES))


def rest_of(step: Step) -> str:
    """Return a key of all in a traced step but the constants that can be lifted: attributes of operations
    and constants within loops are numbers as well.
    """
    return _read(step, _Detail.NO_VALUES)


def structure_of(step: Step, *, numbers: bool) -> str:
    """Return a key of a traced step's operations and their connections, whatever their sizes.

    Args:
        step: the step.
        numbers: whether their values are part of it, or only their sorts.
    """
    return _read(step, _Detail.NO_SIZES if numbers else _Detail.SORTS)


def sort_of(number: float) -> str:
    """Return what TensorFlow's rewriting makes of a number: 0 and 1 leave operations out, and scales by a
    power of two are exact wherever they stand in a chain.
    """
    if number in (0.0, 1.0):
        return str(int(number))
    return "power of two" if abs(math.frexp(number)[0]) == 0.5 else "other"


def _read(step: Step, detail: _Detail) -> str:
    """Return a digest of a step."""
    graph = step.function.graph.as_graph_def()
    functions = {function.signature.name: function for function in graph.library.function}
    total = hashlib.sha256()
    reader = _GraphReader(functions, detail)
    total.update(reader.nodes(graph.node, [], outermost=True).encode())
    places = {node.name: number for number, node in enumerate(graph.node)}
    for tensor in step.function.outputs:
        total.update(f"out {places[tensor.op.name]}:{tensor.value_index};".encode())
    total.update(repr(tf.nest.map_structure(lambda _: 0, step.function.structured_outputs)).encode())
    for capture in step.captures:
        total.update(_describe(capture, detail).encode())
    return total.hexdigest()


def kind_of(graphs: Sequence[Any]) -> str:
    """Return a key of the operations in traced graphs, whatever their sizes, number and order."""
    operations = {node.op for graph in graphs for node in every_node(graph.as_graph_def())}
    return hashlib.sha256(",".join(sorted(operations)).encode()).hexdigest()[:32]


def unkept_state(graph: Any) -> list[str]:
    """Return the operations of a traced graph with state of their own, which no program may share."""
    found = set()
    for node in every_node(graph.as_graph_def()):
        definition = tf.raw_ops.__dict__.get(node.op)
        if definition is not None and _is_stateful(node.op):
            found.add(node.op)
    return sorted(found)


def unkept_note(operations: Sequence[str]) -> str:
    """Return a note for the user about operations with state of their own."""
    rule = f"{', '.join(operations)} in the model's steps keep state that no checkpoint holds"
    remedy = "draw random numbers with keras.random and a SeedGenerator, and keep state in variables"
    return f"{rule}: after an interruption the trial may end with different bits; {remedy}"


def every_node(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of its functions."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _is_stateful(operation: str) -> bool:
    if operation in _TABLES_CHANGED:
        return True
    if operation in _STATE_IS_HANDED or operation.startswith(("Resource", "LookupTable")):
        return False
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    return definition is None or definition.is_stateful


class _GraphReader:
    """Serializes nodes without their names.

    Args:
        functions: those that nodes may call, by name.
        detail: what to include.
    """

    def __init__(self, functions: Mapping[str, Any], detail: _Detail) -> None:
        self._functions = functions
        self._detail = detail
        self._known: dict[str, str] = {}

    def nodes(self, nodes: Any, arguments: list[str], *, outermost: bool = False) -> str:
        """Serialize nodes: operation, attributes and inputs by position.

        Args:
            nodes: of the step itself, or of a function that it calls.
            arguments: the function's.
            outermost: whether they are the step's.
        """
        places = {name: f"a{number}" for number, name in enumerate(arguments)}
        places |= {node.name: f"n{number}" for number, node in enumerate(nodes)}
        casts = [node for node in nodes if node.op == "Cast"]
        cast = {name.partition(":")[0] for node in casts for name in node.input}
        lines = []
        for node in nodes:
            # Data inputs come first, in order; control inputs are sorted by name, including counters.
            data = [_place(name, places) for name in node.input if not name.startswith("^")]
            before = sorted(_place(name, places) for name in node.input if name.startswith("^"))
            inputs = ",".join(data + before)
            liftable = outermost and node.op == "Const" and not node.input
            attributes = ";".join(
                f"{name}={self._attribute(node.attr[name], liftable=liftable, cast=node.name in cast)}"
                for name in sorted(node.attr)
                if name not in _ONLY_NAMES
            )
            lines.append(f"{node.op}({inputs})[{attributes}]@{node.device}")
        return "\n".join(lines)

    def _attribute(self, value: Any, *, liftable: bool = False, cast: bool = False) -> str:
        """Serialize an attribute.

        Args:
            value: the attribute.
            liftable: whether it is of a constant that can be lifted, if that is a float.
            cast: whether it is of something that is cast, as the steps of a schedule are, and no size.
        """
        kind = value.WhichOneof("value")
        if kind == "func":
            return self._function(value.func.name)
        if kind == "list" and value.list.func:
            return ",".join(self._function(one.name) for one in value.list.func)
        if self._detail is _Detail.NO_VALUES and liftable and (number := _number(kind, value)) is not None:
            return f"number {without_value(number)}"
        if self._detail is _Detail.SORTS and (number := _number(kind, value)) is not None:
            return f"number {sort_of(number)}"
        sized = self._detail in (_Detail.NO_SIZES, _Detail.SORTS)
        if sized and not cast and (known := _without_sizes(kind, value)) is not None:
            return known
        return hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()

    def _function(self, name: str) -> str:
        if name not in self._functions:
            return name  # not one of this graph's: identified by its name
        if name not in self._known:
            self._known[name] = "recursive"
            self._known[name] = self._definition(self._functions[name])
        return self._known[name]

    def _definition(self, function: Any) -> str:
        signature = function.signature
        arguments = [argument.name for argument in signature.input_arg]
        places = {name: f"a{number}" for number, name in enumerate(arguments)}
        places |= {node.name: f"n{number}" for number, node in enumerate(function.node_def)}
        parts = [self.nodes(function.node_def, arguments)]
        parts += [f"in {argument.type}" for argument in signature.input_arg]
        parts += [f"out {_place(function.ret[output.name], places)}" for output in signature.output_arg]
        parts += sorted(f"control {_place(node, places)}" for node in function.control_ret.values())
        parts += [
            f"{name}={self._attribute(function.attr[name])}"
            for name in sorted(function.attr)
            if name not in _ONLY_NAMES
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _number(kind: str | None, value: Any) -> float | None:
    """Return an attribute's number if it is a float, as in constants; else None."""
    if kind == "f":
        return float(value.f)
    if (
        kind == "tensor"
        and not value.tensor.tensor_shape.dim
        and tf.dtypes.as_dtype(value.tensor.dtype).is_floating
    ):
        return float(tf.make_ndarray(value.tensor))
    return None


def _without_sizes(kind: str | None, value: Any) -> str | None:
    """Return an attribute that consists of sizes without these; None for any other."""
    if kind == "shape":
        return _dimensions(value.shape)
    if kind == "list" and value.list.shape:
        return "; ".join(_dimensions(shape) for shape in value.list.shape)
    if kind == "tensor" and tf.dtypes.as_dtype(value.tensor.dtype).is_integer:  # such as a new shape
        numbers = ",".join(_size(number) for number in tf.make_ndarray(value.tensor).ravel().tolist())
        return f"tensor {value.tensor.dtype} {_dimensions(value.tensor.tensor_shape)} {numbers}"
    return None


def _dimensions(shape: Any) -> str:
    return "unknown" if shape.unknown_rank else f"({','.join(_size(one.size) for one in shape.dim)})"


def _size(number: int) -> str:
    """Return -1, 0 and 1 as they are: they mean unknown, the first axis, and what is broadcast. Of others,
    tell whether a mean over them divides exactly.
    """
    if number in (-1, 0, 1):
        return str(number)
    return "2^n" if number > 0 and number & (number - 1) == 0 else "n"


def _place(name: str, places: Mapping[str, str]) -> str:
    """Return an input such as `node:out:0`, `node:1` or `^node` with its position instead of its name."""
    control = name.startswith("^")
    node, _, output = name.removeprefix("^").partition(":")
    return f"{'^' if control else ''}{places.get(node, node)}:{output}"


def _describe(capture: tf.Tensor, detail: _Detail) -> str:
    """Describe dtype and shape of what a captured handle points to."""
    data = getattr(capture, "_handle_data", None)
    if detail in (_Detail.NO_SIZES, _Detail.SORTS):
        parts = [] if data is None else data.shape_and_type
        return f"capture {capture.dtype.name} {[(part.dtype, _dimensions(part.shape)) for part in parts]};"
    return f"capture {capture.dtype.name} {capture.shape} {data};"

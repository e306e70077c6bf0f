"""How TensorFlow optimizes constants before it runs a graph, as far as lifted ones must respect it.

Its optimizer (Grappler's constant folding) evaluates what depends only on constants, replaces division by a
constant with multiplication by its reciprocal, and combines the constants of a chain of sums, or of products.
None of this happens to an argument. So what would be folded is lifted in its folded form; what would be
rewritten stays a constant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

#: Operations on single numbers that are folded here as in TensorFlow, with the names of their inputs.
_FOLDED = {
    **dict.fromkeys(("AddV2", "Add", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Pow"), ("x", "y")),
    **dict.fromkeys(("Neg", "Sqrt", "Rsqrt", "Square", "Exp", "Log", "Reciprocal", "Cast"), ("x",)),
    "Identity": ("input",),
}
#: Operations that only repeat or reshape numbers.
_SHAPING = frozenset({"BroadcastTo", "Reshape", "Tile", "ExpandDims", "Squeeze", "Fill", "Identity"})
_SUMS = frozenset({"Add", "AddV2", "Sub"})
_DIVISIONS = frozenset({"RealDiv", "Div", "DivNoNan"})
_GATHERED = _SUMS | _DIVISIONS | {"Mul"}


class ConstantGraph:
    """A function's nodes, classified by what depends only on constants.

    Args:
        definition: a `FunctionDef`.
    """

    def __init__(self, definition: Any) -> None:
        self.nodes = {node.name: node for node in definition.node_def}
        self._returned = {_node(name) for name in definition.ret.values()}
        #: The numbers that are to become arguments, by their node's name.
        self.arguments: frozenset[str] = frozenset()
        self._numbers: dict[str, NDArray[Any] | None] = {}
        self._constant: dict[str, bool] = {}

    @cached_property
    def numbers(self) -> dict[str, NDArray[Any]]:
        """Single floats that are constants, or folded from constants, by their node's name, in order."""
        found = {name: self._number(name) for name in self.nodes}
        return {
            name: number
            for name, number in found.items()
            if number is not None and tf.dtypes.as_dtype(number.dtype).is_floating
        }

    def frontier(self, name: str) -> bool:
        """Tell whether a node that is not folded itself uses a number."""
        users = self._users[name]
        return name in self._returned or any(self._number(user) is None for user, _ in users)

    def may_be_lifted(self, name: str) -> bool:
        """Tell whether everything that uses a number computes the same with an argument instead."""
        return all(
            self._number(user) is not None or self._does_the_same(user, at) for user, at in self._users[name]
        )

    def _does_the_same(self, name: str, at: int) -> bool:
        node = self.nodes[name]
        inputs = [one for one in node.input if not one.startswith("^")]
        if node.op in _SHAPING:
            return self.may_be_lifted(name)
        if node.op == "Pow" or node.op in _DIVISIONS:
            return (
                at == 0 and not any(self._is_constant(one) for one in inputs[1:]) and self._stands_alone(name)
            )
        if node.op not in _GATHERED:
            return True
        others = [one for place, one in enumerate(inputs) if place != at]
        if all(self._is_constant(one) for one in others):
            return self.may_be_lifted(name)  # a constant tensor that another step computes from this one
        return self._stands_alone(name)

    def _stands_alone(self, name: str) -> bool:
        """Tell whether no other constant of the same chain would be combined with a node's own."""
        beside = [_node(one) for one in self.nodes[name].input if not self._is_constant(one)]
        beside += [user for user, _ in self._users[name]]
        return all(self._keeps_apart(name, other) for other in beside)

    def _keeps_apart(self, name: str, other: str) -> bool:
        node = self.nodes.get(other)
        if node is None or node.op not in _GATHERED or (node.op in _SUMS) != (self.nodes[name].op in _SUMS):
            return True
        constants = [one for one in node.input if not one.startswith("^") and self._is_constant(one)]
        scales = self.nodes[name].op == node.op == "Mul" and all(map(self._is_power_of_two, constants))
        return not constants or scales

    def _is_power_of_two(self, name: str) -> bool:
        """Tell whether multiplying by a constant is exact, so its position in a chain does not matter."""
        node = self.nodes[_node(name)]
        if node.op in _SHAPING:
            return self._is_power_of_two(node.input[0] if node.op != "Fill" else node.input[1])
        if node.op != "Const" or node.name in self.arguments:
            return False
        mantissa, _ = np.frexp(np.abs(tf.make_ndarray(node.attr["value"].tensor)))
        return bool(np.all(mantissa == 0.5))

    @cached_property
    def _users(self) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for node in self.nodes.values():
            for at, name in enumerate(one for one in node.input if not one.startswith("^")):
                found[_node(name)].append((node.name, at))
        return found

    def _is_constant(self, name: str) -> bool:
        """Tell whether a node's output depends only on constants."""
        name = _node(name)
        if name not in self._constant:
            node = self.nodes.get(name)
            self._constant[name] = False  # an argument, or a loop
            if node is not None and (
                node.op == "Const" or (node.input and node.op in _SHAPING | set(_FOLDED))
            ):
                self._constant[name] = all(map(self._is_constant, _data(node)))
        return self._constant[name]

    def _number(self, name: str) -> NDArray[Any] | None:
        if name not in self._numbers:
            self._numbers[name] = None
            self._numbers[name] = self._folded(self.nodes[name])
        return self._numbers[name]

    def _folded(self, node: Any) -> NDArray[Any] | None:
        if any(one.startswith("^") for one in node.input):
            return None
        if node.op == "Const":
            scalar = not node.attr["value"].tensor.tensor_shape.dim
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            numeric = dtype.is_floating or dtype.is_integer
            return np.asarray(tf.make_ndarray(node.attr["value"].tensor)) if scalar and numeric else None
        if node.op not in _FOLDED or any(_node(one) not in self.nodes for one in node.input):
            return None
        inputs = [self._number(_node(one)) for one in node.input]
        if any(one is None for one in inputs):
            return None
        extra = {"DstT": tf.dtypes.as_dtype(node.attr["DstT"].type)} if node.op == "Cast" else {}
        with tf.device("CPU:0"):
            given = {key: tf.constant(one) for key, one in zip(_FOLDED[node.op], inputs, strict=True)}
            return np.asarray(getattr(tf.raw_ops, node.op)(**given, **extra).numpy())


def _node(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]


def _data(node: Any) -> Iterator[str]:
    return (one for one in node.input if not one.startswith("^"))

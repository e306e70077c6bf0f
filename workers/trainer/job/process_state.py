"""Process-wide settings, restored after a trial that changes them.

Settings that change computations are loud: while they differ no other trial may train here. Settings that
cannot be restored leave the process worn, and its host replaces it.
"""

from __future__ import annotations

import ast
import contextlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
from keras.src.backend import config
from tensorflow.python.data.ops import debug_mode
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.ops import (
    control_flow_util,
    resource_variables_toggle,
    stateful_random_ops,
)

from kerasweep.workers.trainer.process import python_settings

_WAIT_S = 0.2
_OF_KERAS = (
    "_FLOATX",
    "_EPSILON",
    "_IMAGE_DATA_FORMAT",
    "_NNX_ENABLED",
    "_MAX_EPOCHS",
    "_MAX_STEPS_PER_EPOCH",
)
#: Calls after which a job's trials train one at a time in a trainer.
_LOUD_CALLS = frozenset(
    {
        *("set_floatx", "set_epsilon", "set_image_data_format", "set_max_epochs", "set_max_steps_per_epoch"),
        *("run_functions_eagerly", "set_jit", "set_experimental_options", "set_soft_device_placement"),
        *("set_global_generator", "enable_debug_mode", "enable_tensor_float_32_execution"),
        *(
            "disable_eager_execution",
            "disable_v2_behavior",
            "enable_numpy_behavior",
            "disable_v2_tensorshape",
        ),
        *("disable_resource_variables", "disable_control_flow_v2", "set_synchronous_execution"),
        *("experimental_enable_numpy_behavior", "enable_check_numerics", "enable_dump_debug_info"),
    }
)
_PATCHED = ("keras", "numpy", "tensorflow")


def is_loud(folder: Path) -> bool:
    """Tell whether a job's files seem to change computations in the whole process.

    Args:
        folder: the job's files.
    """
    return any(map(_is_loud, folder.rglob("*.py")))


def _is_loud(path: Path) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return False
    libraries = set(_libraries(nodes))
    return any(_changes_all(node, libraries) for node in nodes)


def _libraries(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the names by which a file refers to the libraries that it must not patch beside others."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in _PATCHED:
                    yield alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _PATCHED:
            yield from (alias.asname or alias.name for alias in node.names)


def _changes_all(node: ast.AST, libraries: set[str]) -> bool:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("simplefilter", "filterwarnings"):
            return any(isinstance(given, ast.Constant) and given.value == "error" for given in node.args)
        if name == "setattr" and node.args:
            return _root(node.args[0]) in libraries
        return name in _LOUD_CALLS
    if isinstance(node, ast.Assign):
        return any(isinstance(one, ast.Attribute) and _root(one) in libraries for one in node.targets)
    return False


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class ProcessState:
    """The settings of this process before any trial, for restoring them."""

    def __init__(self) -> None:
        self._loud = _read_loud()
        self._quiet = _read_quiet()
        self._mode = _read_mode()

    @property
    def is_changed(self) -> bool:
        """Whether settings differ that change computations."""
        return _read_loud() != self._loud or self.is_worn

    @property
    def is_worn(self) -> bool:
        """Whether something was changed that cannot be restored."""
        return _read_mode() != self._mode

    @property
    def is_untouched(self) -> bool:
        """Whether all settings are those of before, including those that only affect output."""
        return not self.is_changed and _read_quiet() == self._quiet

    def put_back(self, quiet: bool) -> None:
        """Restore the settings.

        Args:
            quiet: whether to restore also those that only affect output, such as warnings.
        """
        if _read_loud() != self._loud:
            _write_loud(self._loud)
        if quiet:
            self._put_quiet_back()

    def _put_quiet_back(self) -> None:
        filters, settings = self._quiet
        if warnings.filters != filters:
            warnings.filters[:] = filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        python_settings.put_back(settings)
        _put_figures_back()


def _read_loud() -> tuple[Any, ...]:
    eager = context.context()
    errors = [rule for rule in warnings.filters if rule[0] == "error"]
    return (
        {name: getattr(config, name) for name in _OF_KERAS},
        (tf.config.functions_run_eagerly(), debug_mode.DEBUG_MODE),
        (
            tf.config.get_soft_device_placement(),
            eager._optimizer_jit,
            dict(eager._optimizer_experimental_options),
        ),
        tf.config.experimental.tensor_float_32_execution_enabled(),
        (stateful_random_ops.global_generator, errors),
    )


def _write_loud(found: tuple[Any, ...]) -> None:
    eager = context.context()
    keras_own, (functions, debug), (soft, jit, options), tf32, (generator, errors) = found
    for name, value in keras_own.items():
        setattr(config, name, value)
    if tf.config.functions_run_eagerly() != functions:
        tf.config.run_functions_eagerly(functions)
    debug_mode.DEBUG_MODE = debug
    eager._optimizer_jit = jit
    eager._optimizer_experimental_options = dict(options)
    if tf.config.get_soft_device_placement() != soft:
        tf.config.set_soft_device_placement(soft)
    eager._thread_local_data.function_call_options = None
    if tf.config.experimental.tensor_float_32_execution_enabled() != tf32:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    stateful_random_ops.global_generator = generator
    rules = [rule for rule in warnings.filters if rule[0] != "error"]
    warnings.filters[:] = [*errors, *rules]  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _read_quiet() -> tuple[Any, ...]:
    return list(warnings.filters), python_settings.read()


def _read_mode() -> tuple[Any, ...]:
    return (
        context.default_execution_mode,
        tf.compat.v1.executing_eagerly_outside_functions(),
        tf.compat.v1.resource_variables_enabled(),
        resource_variables_toggle._DEFAULT_USE_RESOURCE,
        control_flow_util.ENABLE_CONTROL_FLOW_V2,
        type(tf.TensorShape([1])[0]),
        ops.is_auto_dtype_conversion_enabled(),
        hasattr(tf.Tensor, "astype"),
        python_settings.read_limits(),
    )


def _put_figures_back() -> None:
    """Restore matplotlib's settings, if a job has loaded it."""
    plots: Any = sys.modules.get("matplotlib")
    if plots is None or not hasattr(plots, "rcParamsOrig"):
        return
    original = {name: value for name, value in plots.rcParamsOrig.items() if not name.startswith("backend")}
    if any(dict.get(plots.rcParams, name) != value for name, value in original.items()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plots.rcParams.update(original)
    figures: Any = sys.modules.get("matplotlib.pyplot")
    if figures is not None:
        figures.close("all")


class Namespaces:
    """The content of libraries' modules and classes, so that a job's patches can be undone."""

    def __init__(self) -> None:
        self._found: list[tuple[Any, dict[str, Any]]] = []
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in ("keras", "numpy") and isinstance(module, ModuleType):
                self._found.append((module, dict(vars(module))))
                for found in list(vars(module).values()):
                    if isinstance(found, type) and found.__module__ == name:
                        self._found.append((found, dict(vars(found))))

    def put_back(self) -> None:
        """Undo patches; modules loaded since are kept."""
        for owner, before in self._found:
            for name, value in list(vars(owner).items()):
                if name not in before:
                    if not isinstance(value, ModuleType) and not name.startswith("__"):
                        with contextlib.suppress(AttributeError, TypeError):
                            delattr(owner, name)
                elif before[name] is not value:
                    with contextlib.suppress(AttributeError, TypeError):
                        setattr(owner, name, before[name])


class Turns:
    """Lets trials train side by side, and loud ones alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._loud = False
        self._waiting = 0

    def enter(self, loud: bool, wait: Callable[[], None]) -> None:
        """Wait for a turn.

        Args:
            loud: whether to be alone.
            wait: called now and then meanwhile; it may raise.
        """
        with self._changed:
            self._waiting += loud
            try:
                while not self._is_free(loud):
                    self._changed.wait(_WAIT_S)
                    wait()
            finally:
                self._waiting -= loud
                self._changed.notify_all()
            self._inside += 1
            self._loud = loud

    def _is_free(self, loud: bool) -> bool:
        return not self._inside if loud else not self._loud and not self._waiting

    def stay_alone(self) -> bool:
        """Become loud during a shared turn; False if others are there."""
        with self._changed:
            self._loud = self._loud or self._inside == 1
            return self._loud

    def leave(self) -> None:
        """End a turn."""
        with self._changed:
            self._inside -= 1
            self._loud = False
            self._changed.notify_all()

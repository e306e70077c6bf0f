"""The process-wide random generators: Python's, NumPy's, TensorFlow's and Keras' own.

`tf.random.set_seed` also discards every compiled kernel of the process, so the next call of each program
costs a tenth of a second. Only TensorFlow's own random operations, run eagerly, need that: their kernels are
stateful. Keras' operations take their state as an argument.
"""

from __future__ import annotations

import ast
import random
import threading
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED
from tensorflow.python.eager import context

#: Hold this while seeding and using the process's generators.
PROCESS_RANDOM = threading.RLock()

_DRAWS = frozenset({"random", "dropout", "random_normal", "random_uniform", "image", "numpy_function"})


def seed_everything(seed: int, kernels: bool) -> None:
    """Do what `keras.utils.set_random_seed` does.

    Args:
        seed: 31 bits.
        kernels: whether TensorFlow's stateful kernels must be reset too.
    """
    if kernels:
        keras.utils.set_random_seed(seed)
        return
    seed_python_and_numpy(seed)
    global_state.set_global_attribute(GLOBAL_RANDOM_SEED, seed)
    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
    seed_tensorflow(seed, kernels)


def seed_tensorflow(seed: int, kernels: bool) -> None:
    """Do what `tf.random.set_seed` does; `kernels` as in `seed_everything`."""
    eager = context.context()
    if kernels or not hasattr(eager, "_rng") or not hasattr(eager, "_seed"):
        tf.random.set_seed(seed)
    else:
        eager._seed, eager._rng = seed, random.Random(seed)


def reset_kernels() -> None:
    """Reset the kernels of TensorFlow's own random operations, which hold a state."""
    context.context().clear_kernel_cache()


def seed_python_and_numpy(seed: int) -> None:
    """Seed the two generators that a job's callbacks may use."""
    random.seed(seed)
    np.random.seed(seed)


def draws_from_tensorflow(folder: Path) -> bool:
    """Tell whether a job's files may use TensorFlow's own random operations.

    Args:
        folder: the job's files.

    Returns:
        True if any of them imports TensorFlow and uses a name such as `tf.random`; True if in doubt.
    """
    return any(_may_draw(path) for path in folder.rglob("*.py"))


def _may_draw(path: Path) -> bool:
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):
        return True
    aliases: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tensorflow":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(_draws(name.split(".")) or name.endswith(".*") for name in names):
                return True
            aliases.update(
                alias.asname or alias.name
                for alias in node.names
                if not _is_keras(f"{node.module}.{alias.name}")
            )
        if isinstance(node, ast.Import):
            found = [alias for alias in node.names if alias.name.partition(".")[0] == "tensorflow"]
            aliases.update(
                alias.asname or "tensorflow"
                for alias in found
                if not (alias.asname and _is_keras(alias.name))
            )
    chains = (_chain(node) for node in nodes if isinstance(node, ast.Attribute))
    return any(chain[0] in aliases and _draws(chain) for chain in chains)


def _is_keras(name: str) -> bool:
    """Tell whether a dotted name of TensorFlow is Keras: its operations take their state as an argument."""
    return name.split(".")[:2] == ["tensorflow", "keras"]


def _draws(chain: list[str]) -> bool:
    return "keras" not in chain and not _DRAWS.isdisjoint(chain[1:])


def _chain(node: ast.expr) -> list[str]:
    """Return the names of `a.b.c`, with an empty first one if it begins with something else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *names]

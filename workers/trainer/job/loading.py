"""Calls a job's `load_data`, and decides whether other trials could tell that they did not call it
themselves.
"""

from __future__ import annotations

import ast
import collections
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
from keras.src.backend.common import global_state

from kerasweep.jobs.errors import JobError
from kerasweep.jobs.trial import FailureClass
from kerasweep.workers.trainer.job.data import Loaded, read_data
from kerasweep.workers.trainer.job.enclave import Enclave, current
from kerasweep.workers.trainer.job.given import is_plain
from kerasweep.workers.trainer.job.residue import residue
from kerasweep.workers.trainer.job.source import JobSource
from kerasweep.workers.trainer.process import own_logging

_NAMES = "object_name_uids"
#: The parts of Keras' thread state that change with each layer or draw and are reset before `build_model`.
_PASSING = frozenset({_NAMES, "global_random_seed", "global_seed_generator", "custom_objects_scope_dict"})
_PARTS = ("train", "validation", "test")


def load_data(source: JobSource, arguments: Mapping[str, Any], shareable: bool) -> Loaded:
    """Call `load_data` in the calling trial's instance of the job.

    Args:
        source: the instance.
        arguments: of the call.
        shareable: whether to check if other trials may share the result.

    Raises:
        JobError: what it returned is not data, or there is no such function.
    """
    if not source.has("load_data"):
        raise JobError(FailureClass.USER, "a job must define load_data, got none; add `def load_data(...)`")
    before = _around(source) if shareable else None
    returned = source.call("load_data", arguments)
    names = dict(global_state.get_global_attribute(_NAMES, {}))
    takers = [source.program.functions.get(name) for name in ("build_model", "callbacks")]
    asked = any(taker is not None and taker.names("data") for taker in takers)
    data = read_data(returned, more=asked)
    unseen = before is None or before != _around(source)
    others = {name: value for name, value in data.given.items() if name not in _PARTS}
    return Loaded(data, names, data.shareable and not unseen and (not asked or is_plain(others)))


def _around(source: JobSource) -> Any:
    """Return what a function of the job could see besides its arguments; None if that is unknown."""
    held = residue(source.modules)
    if held is None:
        return None
    enclave = current()
    own = None if enclave is None else _own(enclave)
    state = {name: repr(value) for name, value in vars(global_state.GLOBAL_STATE_TRACKER).items()}
    passing = {name: value for name, value in state.items() if name not in _PASSING}
    config = keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format()
    return held, sorted(source.modules), own, passing, config, _files(source.place)


def _own(enclave: Enclave) -> Any:
    stores = {name: dict(store) for name, store in enclave.stores.items()}
    return stores, str(enclave.lists), own_logging.changes(enclave)


def _files(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for base, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(base, name)
            stat = path.lstat()
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return found


def reset_names(counters: Mapping[str, int]) -> None:
    """Set Keras' counters of automatic names in this thread."""
    found: Any = collections.defaultdict(int, counters)
    global_state.set_global_attribute(_NAMES, found)


@contextmanager
def own_pools() -> Iterator[None]:
    """Give a job its own joblib processes: those of another job know other functions by the same names."""
    before = _pools()
    for module in before:
        vars(module)["_executor"] = None
    try:
        yield
    finally:
        for module, pool in _pools().items():
            if pool is not None:
                pool.shutdown(wait=False, kill_workers=True)
            vars(module)["_executor"] = before.get(module)


def _pools() -> dict[ModuleType, Any]:
    names = ("joblib.externals.loky.reusable_executor", "loky.reusable_executor")
    modules = [sys.modules[name] for name in names if name in sys.modules]
    return {module: getattr(module, "_executor", None) for module in modules}


def parse_one_at_a_time() -> None:
    """Let one thread at a time parse Python source in this process.

    CPython 3.11 counts the depth of a syntax tree once for all threads, so that two that parse at the same
    time may get a SystemError (python/cpython#106905). Trials that begin together parse their job.
    """
    ast.parse = _one_at_a_time(ast.parse)


def _one_at_a_time(parse: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.RLock()

    @functools.wraps(parse)
    def in_turn(*arguments: Any, **options: Any) -> Any:
        with lock:
            return parse(*arguments, **options)

    return in_turn

"""Job programs, loaded side by side.

Two sweeps may each have a `model.py` beside their `train.py`. Each program gets an `__import__` of its own,
through the `__builtins__` of its modules, which finds the files beside the job first. So even an import
inside a function, run late and in another thread, finds the right file. Modules keep their plain names, so
that tracebacks, `.keras` files and `load_model` in the user's own folder see what they would see without us.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from kerasweep.workers.trainer.job.seeding import draws_from_tensorflow

#: Importing changes tables of the whole process (`sys.modules`, Keras' registry): one at a time.
_LOADING = threading.RLock()
_JOB_MODULES: set[int] = set()
_LIBRARIES = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]


class JobSource:
    """A job's file and the files beside it, loaded once.

    Args:
        folder: where the bundle is unpacked.
        entry: the job's file in it.

    Raises:
        Exception: whatever the job's own code raises when it is loaded.
    """

    def __init__(self, folder: Path, entry: str) -> None:
        self.folder = folder
        self.custom_objects: dict[str, Any] = {}
        self.draws_from_tensorflow = draws_from_tensorflow(folder)
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}
        with _LOADING, self._settings_kept():
            before = dict(keras.saving.get_custom_objects())
            self._module = self._load(entry.removesuffix(".py").replace("/", "."))
            self._take_registered(before)

    def has(self, function: str) -> bool:
        """Tell whether the job defines a function."""
        return callable(getattr(self._module, function, None))

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Call one of the job's functions, with its registered classes in scope."""
        with keras.saving.custom_object_scope(self.custom_objects):
            return getattr(self._module, function)(**arguments)

    def apply_settings(self) -> None:
        """Put what the job's file sets when it is loaded into force for this thread.

        Keras keeps the dtype policy by thread, and only the first trial's thread loads the file.
        """
        keras.config.set_floatx(self._floatx)
        keras.config.set_dtype_policy(self._policy)

    @contextmanager
    def _settings_kept(self) -> Iterator[None]:
        floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
        try:
            yield
            self._floatx, self._policy = keras.config.floatx(), keras.config.dtype_policy()
        finally:
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(policy)

    def forget(self) -> None:
        """Take the job's modules out of the process's tables."""
        with _LOADING:
            for name, module in self._modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
                _JOB_MODULES.discard(id(module))

    def _take_registered(self, before: Mapping[str, Any]) -> None:
        # Another sweep may register the same name for another class: keep ours for our own scope.
        registry = keras.saving.get_custom_objects()
        for name, found in list(registry.items()):
            if before.get(name) is not found:
                self.custom_objects[name] = found
                del registry[name]
        registry.update(before)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level:
            package = (globals or {}).get("__package__")
            name = importlib.util.resolve_name("." * level + name, package)
        top = name.partition(".")[0]
        if not self._is_local(top):
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        with _LOADING:
            module = self._load(name)
            for part in fromlist or ():
                self._load_part(module, part)
        return module if fromlist else self._modules[top]

    def _is_local(self, top: str) -> bool:
        if top in self._modules:
            return True
        if top in sys.builtin_module_names:
            return False
        return (self.folder / f"{top}.py").is_file() or (self.folder / top).is_dir()

    def _load(self, name: str) -> ModuleType:
        if name in self._modules:
            return self._modules[name]
        parent, _, last = name.rpartition(".")
        path = list(self._load(parent).__path__) if parent else [str(self.folder)]
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r} beside the job", name=name)
        module = importlib.util.module_from_spec(spec)
        self._execute(name, module, spec)
        if parent:
            setattr(self._modules[parent], last, module)
        return module

    def _execute(self, name: str, module: ModuleType, spec: importlib.machinery.ModuleSpec) -> None:
        module.__dict__["__builtins__"] = self._builtins
        self._modules[name] = module
        _publish(name, module)
        try:
            if spec.loader is not None:
                spec.loader.exec_module(module)
        except BaseException:
            del self._modules[name]
            if sys.modules.get(name) is module:
                del sys.modules[name]
            raise

    def _load_part(self, module: ModuleType, part: str) -> None:
        if hasattr(module, "__path__") and part != "*" and not hasattr(module, part):
            try:
                self._load(f"{module.__name__}.{part}")
            except ModuleNotFoundError as exc:
                if exc.name != f"{module.__name__}.{part}":
                    raise


def is_job_class(found: type) -> bool:
    """Tell whether a class is the job's own, not a library's."""
    return id(sys.modules.get(found.__module__)) in _JOB_MODULES


def _publish(name: str, module: ModuleType) -> None:
    """Let `dataclasses`, `pickle` and `importlib` find a job's module, unless the name is a library's."""
    present = sys.modules.get(name)
    free = present is None and not _is_library(name.partition(".")[0])
    if free or id(present) in _JOB_MODULES:
        sys.modules[name] = module
        _JOB_MODULES.add(id(module))


def _is_library(top: str) -> bool:
    if top in sys.stdlib_module_names:
        return True
    spec = importlib.machinery.PathFinder.find_spec(top, _LIBRARIES)
    return spec is not None and spec.origin is not None

"""A job's program, loaded for one trial: its own modules, found beside the job first.

Two sweeps may each have a `model.py` beside their `train.py`, and each trial has its own instance of either.
Each program gets its own `__import__`, through the `__builtins__` of its modules, so even an import inside a
function, run late and in another thread, finds the right file. Modules keep their plain names, so that
tracebacks, `.keras` files and `load_model` in the user's own folder look as they would without kerasweep.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import keras
from keras.src.saving import object_registration

from kerasweep.jobs.code.program import Program, Signature, read_program
from kerasweep.workers.trainer.job.enclave import current
from kerasweep.workers.trainer.job.facade import is_elsewhere, is_facade, publish, unpublish
from kerasweep.workers.trainer.job.process_state import is_loud
from kerasweep.workers.trainer.job.seeding import draws_from_tensorflow

#: Importing changes process-wide tables (`sys.modules`, Keras' registry): one at a time.
_LOADING = threading.RLock()


class JobText:
    """A job's files, read and compiled once for all of its trials.

    Args:
        folder: where the bundle is unpacked.
        entry: the job's file in it.
    """

    def __init__(self, folder: Path, entry: str) -> None:
        self.folder, self.entry = folder, entry
        self.draws_from_tensorflow = draws_from_tensorflow(folder)
        #: Whether trials of this job must be alone in a process, because of what it changes there.
        self.is_loud = is_loud(folder)
        self._codes: dict[Path, CodeType] = {}
        self._libraries: dict[str, bool] = {}
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        """The job's functions and their parameters."""
        if self._program is None:
            self._program = read_program(self.folder / self.entry)
        return self._program

    def code(self, path: Path) -> CodeType:
        """Return a file's compiled code.

        Args:
            path: relative to the folder.

        Raises:
            SyntaxError: it is not Python.
        """
        if path not in self._codes:
            full = self.folder / path
            self._codes[path] = compile(full.read_bytes(), str(full), "exec", dont_inherit=True)
        return self._codes[path]

    def is_library(self, top: str) -> bool:
        """Tell whether Python finds a regular module or package of a name without the job's folder."""
        if top not in self._libraries:
            self._libraries[top] = is_elsewhere(top)
        return self._libraries[top]


class JobSource:
    """An instance of a job's modules.

    Args:
        folder: where the bundle is unpacked.
        entry: the job's file in it.
        place: a folder with the same files, which the modules see as theirs; None for `folder`.
        text: the files, if already read.

    Raises:
        Exception: whatever the job's own code raises on import.
    """

    def __init__(
        self, folder: Path, entry: str, place: Path | None = None, text: JobText | None = None
    ) -> None:
        self.text = text or JobText(folder, entry)
        self.place = place or folder
        self.custom_objects: dict[str, Any] = {}
        self._names: dict[Any, str] = {}
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}
        enclave = current()
        if enclave is not None:
            enclave.source = self
        with self._registering():
            self._module = self.load(entry.removesuffix(".py").replace("/", "."))

    @property
    def draws_from_tensorflow(self) -> bool:
        """Whether the job may use TensorFlow's own random operations."""
        return self.text.draws_from_tensorflow

    @property
    def modules(self) -> Mapping[str, ModuleType]:
        """The modules loaded so far, by name."""
        return dict(self._modules)

    @cached_property
    def program(self) -> Program:
        """The job's functions; what a file does not tell, such as the arguments of a partial, is told by the
        functions themselves.
        """
        program = self.text.program
        found = {
            name: _signature(getattr(self._module, name, None), read) if read.any_keyword else read
            for name, read in program.functions.items()
        }
        return replace(program, functions=found)

    def has(self, function: str) -> bool:
        """Tell whether the job defines a function."""
        return callable(getattr(self._module, function, None))

    def call(self, function: str, arguments: Mapping[str, Any]) -> Any:
        """Call one of the job's functions, with its registered classes in scope.

        Args:
            function: its name.
            arguments: of a function whose arguments its file does not tell, those that it does not take are
                left out.
        """
        read = self.text.program.functions.get(function) if arguments else None
        if read is not None and read.any_keyword:
            signature = self.program.functions[function]
            arguments = {name: value for name, value in arguments.items() if signature.takes(name)}
        with keras.saving.custom_object_scope(self.custom_objects), self._registering():
            return getattr(self._module, function)(**arguments)

    def forget(self) -> None:
        """Release the job's modules."""
        with _LOADING:
            unpublish(self)
            for found in self._names:
                object_registration.GLOBAL_CUSTOM_NAMES.pop(found, None)

    def module_named(self, name: str) -> ModuleType | None:
        """Return a module of the job, loading it if necessary; None if the job has no such module."""
        if name not in self._modules and self.has_module(name):
            self.load(name)
        return self._modules.get(name)

    def has_module(self, name: str) -> bool:
        """Tell whether there is a module of this name beside the job."""
        if name in self._modules:
            return True
        parent, _, _ = name.rpartition(".")
        if parent:
            return self.has_module(parent) and self._find(name, _paths(self.load(parent))) is not None
        return self._is_local(name)

    def load(self, name: str) -> ModuleType:
        """Return a module beside the job, executed once.

        Raises:
            ModuleNotFoundError: there is none.
            Exception: whatever its code raises.
        """
        with _LOADING:
            if name in self._modules:
                return self._modules[name]
            parent, _, last = name.rpartition(".")
            spec = self._find(name, _paths(self.load(parent)) if parent else self._top_paths())
            if spec is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            module = importlib.util.module_from_spec(spec)
            self._execute(name, module, spec)
            if parent:
                setattr(self._modules[parent], last, module)
            return self._modules[name]

    @contextmanager
    def _registering(self) -> Iterator[None]:
        """Keep what the job registers with Keras in its own scope: others may register the same names."""
        registry, names = object_registration.GLOBAL_CUSTOM_OBJECTS, object_registration.GLOBAL_CUSTOM_NAMES
        with _LOADING:
            before, known = dict(registry), set(names)
            try:
                yield
            finally:
                fresh = {name: found for name, found in registry.items() if before.get(name) is not found}
                self.custom_objects.update(fresh)
                self._names.update({found: name for found, name in names.items() if found not in known})
                registry.clear()
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
        module = self.load(name)
        for part in fromlist or ():
            self._load_part(module, part)
        return module if fromlist else self._modules[top]

    def _is_local(self, top: str) -> bool:
        if top in self._modules:
            return True
        if top in sys.builtin_module_names or importlib.machinery.FrozenImporter.find_spec(top):
            return False
        spec = self._find(top, self._top_paths())
        # A folder without __init__.py loses to an installed package of the same name, as in Python.
        return spec is not None and (spec.origin is not None or not self.text.is_library(top))

    def _top_paths(self) -> list[str]:
        """Return where the job's modules may be: its folder, and folders below that it adds to the path."""
        enclave = current()
        own = enclave.lists.get("path", []) if enclave is not None else []
        here = str(self.place)
        below = [entry for entry in own if isinstance(entry, str) and entry.startswith(f"{here}/")]
        return [here, *below]

    def _find(self, name: str, paths: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
        last = name.rpartition(".")[2]
        spaces = []
        for path in map(Path, paths):
            package, file = path / last / "__init__.py", path / f"{last}.py"
            if package.is_file():
                return importlib.util.spec_from_file_location(
                    name, package, submodule_search_locations=[str(package.parent)]
                )
            if file.is_file():
                return importlib.util.spec_from_file_location(name, file)
            if (path / last).is_dir():
                spaces.append(str(path / last))
        if not spaces:
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = spaces
        return spec

    def _execute(self, name: str, module: ModuleType, spec: importlib.machinery.ModuleSpec) -> None:
        module.__dict__["__builtins__"] = self._builtins
        self._modules[name] = module
        publish(name, self)
        if spec.origin is None:
            return
        try:
            path = Path(spec.origin)
            inside = path.is_relative_to(self.place)
            if inside and (self.text.folder / path.relative_to(self.place)).is_file():
                code = self.text.code(path.relative_to(self.place))
            else:
                code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
            exec(code, module.__dict__)  # noqa: S102 - as an import would
        except BaseException:
            del self._modules[name]
            raise

    def _load_part(self, module: ModuleType, part: str) -> None:
        if hasattr(module, "__path__") and part != "*" and not hasattr(module, part):
            try:
                self.load(f"{module.__name__}.{part}")
            except ModuleNotFoundError as exc:
                if exc.name != f"{module.__name__}.{part}":
                    raise


def is_job_class(found: type) -> bool:
    """Tell whether a class belongs to the job rather than to a library."""
    return is_of_job(getattr(found, "__module__", ""))


def is_of_job(name: str) -> bool:
    """Tell whether a module is one of the job's."""
    enclave = current()
    source = None if enclave is None else enclave.source
    return is_facade(name) or (source is not None and name in source.modules)


def _signature(function: Callable[..., Any] | None, read: Signature) -> Signature:
    """Return the signature of a loaded function, or what was read of it."""
    try:
        parameters = inspect.signature(function).parameters.values() if function else None
    except (TypeError, ValueError):
        parameters = None
    if parameters is None:
        return read
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [one for one in parameters if one.kind in plain]
    return Signature(
        required=tuple(one.name for one in named if one.default is one.empty),
        optional=tuple(one.name for one in named if one.default is not one.empty),
        any_keyword=any(one.kind is one.VAR_KEYWORD for one in parameters),
        line=read.line,
    )


def _paths(package: ModuleType) -> list[str]:
    return list(getattr(package, "__path__", ()))

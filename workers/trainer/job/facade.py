"""Job modules in `sys.modules`: one entry per name, which shows each trial its own module.

`pickle`, `dataclasses`, `inspect` and `importlib` look modules up there, from whichever trial's thread they
are called.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import sysconfig
from types import ModuleType
from typing import Any

from kerasweep.workers.trainer.job.enclave import OwnModules, current

_LIBRARIES = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
#: The original one, before any job.
_PATH = [entry for entry in sys.path if entry]
_OWN = object.__getattribute__
#: What threads without a trial see: the job that was loaded last.
_NEWEST: list[OwnModules] = []
#: Which jobs, by identity, use a name.
_PUBLISHED: dict[str, set[int]] = {}


class Facade(ModuleType):
    """Stands in `sys.modules` for the modules of one name, each of which belongs to a trial."""

    def __getattribute__(self, name: str) -> Any:
        module = _module_of(self)
        if name == "__class__":
            return ModuleType
        return _OWN(self, name) if module is None else getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        module = _module_of(self)
        if name in ("__spec__", "__loader__") and module is not None:
            return  # attributes that `importlib` would set on import
        if type(value) is Facade:
            value = _module_of(value) or value
        if module is None:
            super().__setattr__(name, value)
        else:
            setattr(module, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_module_of(self) or self, name)

    def __dir__(self) -> list[str]:
        return dir(_module_of(self) or ModuleType(""))


def _module_of(facade: Facade) -> ModuleType | None:
    source = _source()
    name = _OWN(facade, "__dict__")["__name__"]
    return None if source is None else source.module_named(name)


def _source() -> OwnModules | None:
    enclave = current()
    if enclave is not None and enclave.source is not None:
        return enclave.source
    return _NEWEST[0] if _NEWEST else None


class JobFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a job's modules for imports through `importlib`, in the threads of its trial."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return a spec if the trial of this thread has such a module beside its job."""
        enclave = current()
        source = None if enclave is None else enclave.source
        if source is None or not source.has_module(name) or not may_publish(name):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=False)

    def create_module(self, spec: Any) -> ModuleType:
        """Load the trial's module, and return its stand-in."""
        source = _source()
        if source is None:
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)
        source.load(spec.name)
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it has already been executed."""


def publish(name: str, source: OwnModules) -> None:
    """Make a job's modules of a name importable, unless the name is a library's."""
    _NEWEST[:] = [source]
    if not any(isinstance(finder, JobFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, JobFinder())
    if name not in sys.modules and may_publish(name):
        sys.modules[name] = Facade(name)
    _PUBLISHED.setdefault(name, set()).add(id(source))


def unpublish(source: OwnModules) -> None:
    """Release a job that is gone; a name that no other job uses is removed."""
    if source in _NEWEST:
        _NEWEST.clear()
    for name, sources in list(_PUBLISHED.items()):
        sources.discard(id(source))
        if not sources:
            del _PUBLISHED[name]
            if is_facade(name):
                del sys.modules[name]


def is_facade(name: str) -> bool:
    """Tell whether jobs' modules have this name."""
    return type(sys.modules.get(name)) is Facade


def may_publish(name: str) -> bool:
    """Tell whether no library has this name."""
    present = sys.modules.get(name)
    return type(present) is Facade or (present is None and not is_library(name.partition(".")[0]))


def is_library(top: str) -> bool:
    """Tell whether an installed package or a standard module has this name."""
    return top in sys.stdlib_module_names or _is_found(top, [path for path in _PATH if _is_site(path)])


def is_elsewhere(top: str) -> bool:
    """Tell whether Python finds a module or a package with `__init__.py` without the job's folder."""
    return top in sys.stdlib_module_names or _is_found(top, _PATH)


def _is_found(top: str, paths: list[str]) -> bool:
    spec = importlib.machinery.PathFinder.find_spec(top, paths)
    return spec is not None and spec.origin is not None


def _is_site(path: str) -> bool:
    return path in _LIBRARIES or path.endswith(("site-packages", "dist-packages"))

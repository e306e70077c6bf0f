"""Reads a job's file without running it: its functions and the parameters that they take."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasweep.jobs.code.reading import find_beside, imported_names, missing, read_module
from kerasweep.jobs.errors import ProgramError, SpecError
from kerasweep.jobs.sweepfile.rules import RuleError, nearest
from kerasweep.jobs.sweepfile.sheet import Sheet, read_sheet, sheet_of
from kerasweep.jobs.sweepfile.spec import SweepSpec, load_spec, parse_spec

#: What a job's functions return. All but the last are required.
FUNCTIONS = {
    "load_data": 'returns {"train": (x, y), "validation": (x, y)}',
    "build_model": "returns a compiled keras.Model",
    "callbacks": "returns a list of Keras callbacks",
}
_OPTIONAL = frozenset({"callbacks"})

#: Arguments that kerasweep passes to functions that name them; see docs/your-job.md.
RESERVED = {
    "load_data": ("trial",),
    "build_model": ("data", "trial"),
    "callbacks": ("data", "model", "trial"),
}


@dataclass(frozen=True)
class Signature:
    """The keyword arguments of a function.

    Args:
        required: those without a default.
        optional: those with one.
        any_keyword: whether it takes others too, or its definition cannot be read.
        line: where it is defined in the job's file, from 1.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    any_keyword: bool = False
    line: int = 0

    def takes(self, name: str) -> bool:
        """Tell whether the function accepts an argument of this name."""
        return self.any_keyword or self.names(name)

    def names(self, name: str) -> bool:
        """Tell whether the signature names this argument."""
        return name in self.required or name in self.optional


@dataclass(frozen=True)
class Program:
    """A job's file.

    Args:
        path: the file.
        functions: the FUNCTIONS that it defines, by name.
    """

    path: Path
    functions: Mapping[str, Signature]

    def route(self, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Split one trial's values into the keyword arguments of each function.

        Values swept under `training` have dotted names and go to no function; `wanted` gives the arguments
        that kerasweep passes itself.
        """
        return {
            function: {
                name: value
                for name, value in params.items()
                if name.isidentifier() and signature.takes(name) and name not in self.wanted(function)
            }
            for function, signature in self.functions.items()
        }

    def takes(self, name: str) -> bool:
        """Tell whether one of the functions accepts an argument of this name."""
        return any(signature.takes(name) for signature in self.functions.values())

    def wanted(self, function: str) -> tuple[str, ...]:
        """Return the RESERVED arguments that a function names."""
        signature = self.functions.get(function, Signature())
        return tuple(name for name in RESERVED[function] if signature.names(name))


def read_program(path: Path) -> Program:
    """Read a job's file.

    Raises:
        ProgramError: the file is missing, not Python, or lacks a function.
    """
    module = read_module(path)
    _check_name(path, set(imported_names(module)))
    functions: dict[str, Signature] = {}
    for name, duty in FUNCTIONS.items():
        signature = _Finder(path.parent).find(module, path, name)
        if signature is not None:
            functions[name] = signature
        elif name not in _OPTIONAL:
            defined = [node.name for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
            near = nearest(name, defined)
            remedy = near if near.startswith("did") else f"add `def {name}(...)`, which {duty}"
            raise ProgramError(f"a job defines {name}, '{path.name}' does not\n{remedy}")
    return Program(path, functions)


def _check_name(path: Path, imported: set[str]) -> None:
    """Refuse a file name under which Python would not find the job, or would find it instead of a library."""
    if "." in path.stem:
        rule = f"a job's file has one dot in its name, got '{path.name}', which Python reads as a package"
        raise ProgramError(f"{rule}\nrename it, such as {path.stem.replace('.', '_')}.py")
    if path.stem in imported:
        rule = f"a job's file must not have the name of a module that it imports, got '{path.name}'"
        raise ProgramError(
            f"{rule}\nrename it, such as {path.stem}_job.py, or `import {path.stem}` finds the job"
        )


def read_sweep(source: Path | Mapping[str, Any], folder: Path) -> SweepSpec:
    """Read a sweep file, or its content.

    Args:
        source: the file, or its content.
        folder: what the job's path is relative to.

    Raises:
        SpecError: it is not valid.
        ProgramError: only its start points are not, and the job does not take the parameters: then one of
            these is misspelt, and not the start points.
    """
    try:
        return parse_spec(source) if isinstance(source, Mapping) else load_spec(source)
    except SpecError:
        with suppress(SpecError):
            sheet = sheet_of(source) if isinstance(source, Mapping) else read_sheet(source)
            spec = parse_spec({**sheet.data, "start": []})
            check_job(spec, folder / spec.job, lambda: sheet)
        raise


def _unwritten() -> Sheet:
    return Sheet({})


def check_job(spec: SweepSpec, path: Path, sheet: Callable[[], Sheet] = _unwritten) -> None:
    """Read a sweep's job and check the sweep's parameters against it.

    Args:
        spec: the sweep.
        path: its job.
        sheet: returns the sweep file, if the sweep came from one.

    Raises:
        ProgramError: as `read_program` and `check` do.
    """
    if not path.is_file() and (place := sheet().place_of(("job",))):
        raise missing(path, f" ({place})")
    check(spec, read_program(path), sheet)


def check(spec: SweepSpec, program: Program, sheet: Callable[[], Sheet] = _unwritten) -> None:
    """Check the sweep's parameters against the job's arguments.

    Args:
        spec: the sweep.
        program: its job.
        sheet: returns the sweep file, if the sweep came from one.

    Raises:
        ProgramError: a parameter that no function takes or that kerasweep passes itself, or a required
            argument that a trial may lack.
    """
    try:
        for name in spec.parameters:
            _check_free(name, program)
            check_taken(name, program)
        for function, signature in program.functions.items():
            for name in signature.required:
                if name not in program.wanted(function):
                    where = f"line {signature.line} of {program.path.name}"
                    _check_given(name, f"{function}()", where, spec)
    except RuleError as breach:
        place = sheet().place_of(breach.at) if breach.at else ""
        where = f" ({place})" if place else ""
        raise ProgramError(f"{breach.rule}{where}\n{breach.remedy}") from breach


def check_taken(name: str, program: Program) -> None:
    """Check that one of the job's functions takes a parameter.

    Raises:
        RuleError: none does.
    """
    if program.takes(name):
        return
    signatures = program.functions.values()
    known = [known for signature in signatures for known in (*signature.required, *signature.optional)]
    remedy = nearest(name, dict.fromkeys(known)) if known else f"write `def build_model({name}=...)`"
    rule = f"no function of '{program.path.name}' takes the parameter '{name}'"
    raise RuleError(rule, remedy, ("parameters", name))


def _check_free(name: str, program: Program) -> None:
    for function in program.functions:
        if name in program.wanted(function):
            rule = f"kerasweep itself gives {function}() the argument '{name}', and a parameter has its name"
            remedy = "rename the parameter and the argument that is meant to take it"
            raise RuleError(rule, remedy, ("parameters", name))


def _check_given(name: str, function: str, where: str, spec: SweepSpec) -> None:
    if name not in spec.parameters:
        rule = f"{function} needs the argument '{name}', and no parameter gives it ({where})"
        raise RuleError(rule, f"add `{name}: {{values: [...]}}` under parameters, or give it a default")
    if spec.parameters[name].when:
        rule = f"{function} always needs '{name}', the parameter has a `when` ({where})"
        raise RuleError(rule, "give the argument a default")


class _Finder:
    """Resolves a name to its definition, through assignments and imports of files beside the job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: set[tuple[Path, str]] = set()

    def find(self, module: ast.Module, path: Path, name: str) -> Signature | None:
        """Return the signature of `name` as it stands at the end of a module, or None."""
        if (path, name) in self._seen:
            return None
        self._seen.add((path, name))
        found: Signature | None = None
        for node in _statements(module.body):
            found = self._meaning(node, module, path, name) or found
        return found

    def _meaning(self, node: ast.stmt, module: ast.Module, path: Path, name: str) -> Signature | None:
        """Return what a statement binds a name to, or None if it does not."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return _signature(node, path)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Signature(any_keyword=True, line=node.lineno)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound = _bound(targets, node.value)
            return self._value(bound[name], module, path) if name in bound else None
        if isinstance(node, ast.ImportFrom):
            return self._imported(node, name)
        if isinstance(node, ast.Import) and name in [alias.asname or alias.name for alias in node.names]:
            return Signature(any_keyword=True, line=node.lineno)
        return None

    def _value(self, value: ast.expr, module: ast.Module, path: Path) -> Signature:
        if isinstance(value, ast.Lambda):
            return _arguments(value.args, "the lambda", value.lineno, path)
        known = self.find(module, path, value.id) if isinstance(value, ast.Name) else None
        return known or Signature(any_keyword=True, line=value.lineno)

    def _imported(self, node: ast.ImportFrom, name: str) -> Signature | None:
        for alias in node.names:
            if name not in (alias.asname or alias.name, "*" if alias.name != "*" else name):
                continue
            beside = find_beside(self._folder, node.module) if node.module and not node.level else None
            original = name if alias.name == "*" else alias.name
            found = self.find(read_module(beside), beside, original) if beside else None
            if found or alias.name != "*":
                return found or Signature(any_keyword=True, line=node.lineno)
        return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run on import, including those inside if, try and with."""
    for node in body:
        yield node
        if isinstance(node, ast.If) and "__main__" not in ast.unparse(node.test):
            yield from _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.With):
            yield from _statements(node.body)
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from _statements([*handlers, *node.body, *node.orelse, *node.finalbody])


def _bound(targets: Sequence[ast.expr], value: ast.expr) -> dict[str, ast.expr]:
    """Return what an assignment binds each name to; the name itself if that cannot be read."""
    found: dict[str, ast.expr] = {}
    for target in targets:
        names, values = [target], [value]
        if isinstance(target, ast.Tuple | ast.List):
            names = values = target.elts
            if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(names):
                values = value.elts
        found.update({one.id: of for one, of in zip(names, values, strict=True) if isinstance(one, ast.Name)})
    return found


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> Signature:
    if isinstance(node, ast.AsyncFunctionDef):
        rule = f"{node.name} must be a plain function, got an async one (line {node.lineno} of {path.name})"
        raise ProgramError(f"{rule}\nwrite `def {node.name}`")
    return _arguments(node.args, node.name, node.lineno, path)


def _arguments(args: ast.arguments, name: str, line: int, path: Path) -> Signature:
    where = f"(line {line} of {path.name})"
    if args.vararg:
        rule = f"{name} must name its arguments, got *{args.vararg.arg} {where}"
        raise ProgramError(f"{rule}\nname each hyperparameter, or take **{args.vararg.arg}")
    if args.posonlyargs:
        rule = f"{name} must take its arguments by name, got '{args.posonlyargs[0].arg}' before a / {where}"
        raise ProgramError(f"{rule}\nremove the /")
    plain = [arg.arg for arg in args.args]
    first_default = len(plain) - len(args.defaults)
    keyword_only = list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    return Signature(
        required=(*plain[:first_default], *(arg.arg for arg, default in keyword_only if default is None)),
        optional=(*plain[first_default:], *(arg.arg for arg, default in keyword_only if default is not None)),
        any_keyword=args.kwarg is not None,
        line=line,
    )

"""Finds the files that a job opens by a literal path."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

#: Functions and methods that read the file or folder given as their first argument, by their last name.
_READERS = frozenset(
    {
        "open", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "load_model", "load_weights",
        "listdir", "scandir", "walk", "glob", "iglob", "File", "TFRecordDataset", "TextLineDataset",
        "CsvDataset", "FixedLengthRecordDataset", "make_csv_dataset", "read_file", "imread",
        "image_dataset_from_directory", "text_dataset_from_directory", "audio_dataset_from_directory",
        "load_img", "loadmat", "parse_config", "run_path", "list_files", "connect"
    }
)  # fmt: skip
#: Path methods that read the path.
_OWN_READERS = frozenset({"read_text", "read_bytes", "iterdir", "rglob"})
_LOOKS = frozenset({"exists", "isfile", "isdir", "is_file", "is_dir"})
_WRITERS = frozenset(
    {
        "save", "savez", "savez_compressed", "savetxt", "save_weights", "dump", "mkdir", "makedirs",
        "touch", "write_text", "write_bytes", "tofile", "CSVLogger", "ModelCheckpoint", "BackupAndRestore",
        "TensorBoard", "cache", "imwrite", "save_img", "savefig", "symlink_to"
    }
)  # fmt: skip
_ENTRIES = frozenset({"load_data", "build_model", "callbacks"})
_PATH_CLASSES = frozenset({"Path", "PurePath", "PosixPath"})
_SAME = frozenset({"resolve", "absolute", "expanduser", "abspath", "realpath", "fspath", "str", "normpath"})


@dataclass(frozen=True)
class Opened:
    """A path that is opened.

    Args:
        path: relative to the job's folder, with /; * stands for what is known only at run time.
        where: the line and the file.
    """

    path: str
    where: str


@dataclass(frozen=True)
class Reads:
    """What a job opens.

    Args:
        needed: what it reads.
        optional: what it reads if it exists.
        words: every string in its source.
    """

    needed: tuple[Opened, ...]
    optional: tuple[Opened, ...]
    words: frozenset[str]

    def mentions(self, folder: str) -> bool:
        """Tell whether any string in the source may refer to a folder of this name."""
        return any(folder in word.replace("\\", "/").split("/") for word in self.words)


def find_reads(modules: Mapping[str, ast.Module]) -> Reads:
    """Find the files that the modules of a job open by a literal path.

    Only code that may run in a trial counts: not the body of `if __name__ == "__main__"`, nor functions that
    nothing reachable mentions.

    Args:
        modules: by path relative to the job's folder.
    """
    scans = [_Scan(name, module) for name, module in modules.items()]
    live = _live_names(scans)
    nodes = [(scan, node) for scan in scans for body in scan.bodies(live) for node in ast.walk(body)]
    paths: dict[str, list[Opened]] = {"read": [], "write": [], "look": []}
    for scan, node in nodes:
        if isinstance(node, ast.Call):
            kind, path = scan.meaning(node)
            if kind and path is not None:
                paths[kind].append(Opened(path, f"line {node.lineno} of {scan.name}"))
    written, looked = ({one.path for one in paths[kind]} for kind in ("write", "look"))
    read = [one for one in dict.fromkeys(paths["read"]) if not _within(one.path, written)]
    return Reads(
        tuple(one for one in read if not _within(one.path, looked)),
        tuple(one for one in read if _within(one.path, looked)),
        frozenset(
            node.value for _, node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ),
    )


def _within(path: str, places: set[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places if place)


class _Scan:
    """One module: its top-level statements, and what its path expressions mean."""

    def __init__(self, name: str, module: ast.Module) -> None:
        self.name = name
        self._parts = [node for node in module.body if not _is_main(node)]
        self._known: dict[str, str] = {}
        for node in self._parts:
            if (
                isinstance(node, ast.Assign)
                and len(node.targets) == 1
                and isinstance(node.targets[0], ast.Name)
            ):
                value = self._path(node.value)
                if value is not None:
                    self._known[node.targets[0].id] = value

    def bodies(self, live: Collection[str]) -> Iterator[ast.stmt]:
        """Yield the top-level statements that may run, given the names in use."""
        for node in self._parts:
            if (
                not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                or node.name in live
            ):
                yield node

    def meaning(self, call: ast.Call) -> tuple[str, str | None]:
        """Return what a call does to which path: whether it reads, writes or probes it."""
        name = _last_name(call.func)
        target = (
            call.args[0] if call.args else _keyword(call, "filepath", "file", "filename", "directory", "path")
        )
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        own = self._path(owner) if owner is not None else None
        if own is not None and name in _LOOKS | _OWN_READERS | {
            "open",
            "glob",
            "mkdir",
            "touch",
            "write_text",
            "write_bytes",
        }:
            return _kind_of(name, call, first=0), own
        if name.startswith("to_") and target is not None:
            return "write", self._path(target)
        if target is None:
            return "", None
        return _kind_of(name, call, first=1), self._path(target)

    def _path(self, node: ast.expr) -> str | None:
        found = self._resolve(node)
        if found is None or found.startswith(("/", "~")) or "://" in found or "\n" in found:
            return None
        tidy = posixpath.normpath(found)
        return None if tidy.startswith("..") or tidy == "*" else tidy

    def _resolve(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) and node.value else None
        if isinstance(node, ast.Name):
            return self.name if node.id == "__file__" else self._known.get(node.id)
        if isinstance(node, ast.Attribute) and node.attr == "parent":
            inner = self._resolve(node.value)
            return None if inner is None else posixpath.dirname(inner) or "."
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return self._join([node.left, node.right])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left = self._resolve(node.left)
            return None if left is None else left + (self._resolve(node.right) or "*")
        if isinstance(node, ast.JoinedStr):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        return self._called(node) if isinstance(node, ast.Call) else None

    def _called(self, node: ast.Call) -> str | None:
        name = _last_name(node.func)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in _PATH_CLASSES or (name == "join" and owner is not None and _last_name(owner) == "path"):
            return self._join(node.args) if node.args else "."
        if name in ("cwd", "getcwd") and not node.args:
            return "."
        if name == "joinpath" and owner is not None:
            return self._join([owner, *node.args])
        if name == "dirname" and node.args:
            inner = self._resolve(node.args[0])
            return None if inner is None else posixpath.dirname(inner) or "."
        if name in _SAME:
            inside = node.args[0] if node.args else owner
            return None if inside is None else self._resolve(inside)
        return None

    def _join(self, parts: list[ast.expr]) -> str | None:
        first, *rest = [self._resolve(part) for part in parts]
        return None if first is None else posixpath.join(first, *[part or "*" for part in rest])


def _kind_of(name: str, call: ast.Call, first: int) -> str:
    if name in _LOOKS:
        return "look"
    if name == "open":
        given = call.args[first] if len(call.args) > first else _keyword(call, "mode")
        mode = given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else "r"
        return "write" if set(mode) & set("wax+") else "read"
    if name in _WRITERS:
        return "write"
    return "read" if name in _READERS | _OWN_READERS or name.startswith("read_") else ""


def _live_names(scans: Collection[_Scan]) -> set[str]:
    """Return the names that reachable code uses: the job's functions, module-level code, and what these
    mention.
    """
    live, size = set(_ENTRIES), -1
    while len(live) != size:
        size = len(live)
        live.update(
            name
            for scan in scans
            for body in scan.bodies(live)
            for node in ast.walk(body)
            for name in _names_in(node)
        )
    return live


def _names_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.alias):
        yield node.name.rpartition(".")[2]


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


def _last_name(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _keyword(call: ast.Call, *names: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg in names), None)

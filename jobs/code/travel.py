"""Finds the files that a job needs: the modules beside it that it imports, and its data files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasweep.jobs.code.opened import Reads, find_reads
from kerasweep.jobs.code.reading import dynamic_imports, find_beside, imported_names, read_module
from kerasweep.jobs.errors import ProgramError

#: A folder beside a job that is always bundled with it.
DATA_FOLDER = "data"
DATA_BYTES = 256 << 20
DATA_FILES = 20_000

#: Folders with third-party code or left behind by tools.
_NOT_OURS = frozenset({"node_modules", "site-packages", "venv", "env", "build", "dist"})


@dataclass(frozen=True)
class Travellers:
    """The files in a job's bundle.

    Args:
        code: the job's file and modules.
        data: its data files.
        notes: what the user should know about omitted files.
    """

    code: frozenset[Path]
    data: frozenset[Path]
    notes: tuple[str, ...] = ()


def find_travellers(path: Path, patterns: Sequence[str]) -> Travellers:
    """Find the files to bundle with a job.

    Args:
        path: the job's file.
        patterns: of data files, relative to the job's folder; a leading ! excludes files.

    Raises:
        ProgramError: a file cannot be bundled, or the job reads one that is not.
    """
    folder = path.parent
    code, parsed = _find_code(path)
    reads = find_reads({file.relative_to(folder).as_posix(): read_module(file) for file in parsed})
    data, notes = _find_data(folder, patterns, reads)
    kept = frozenset(data - code)
    _check_reads(folder, reads, code | kept)
    return Travellers(frozenset(code), kept, (*notes, *_optional_notes(folder, reads, code | kept)))


def _find_code(path: Path) -> tuple[set[Path], set[Path]]:
    """Return the job's file with everything it imports from beside it, and the subset imported by a fixed
    name.

    The subset leaves out modules that only a name computed at run time may refer to.
    """
    folder, found, waiting = path.parent, {path}, [path]
    prefixes: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file.exists():
            _check_inside(file, folder)
        module = read_module(file)
        names = set(imported_names(module))
        for name, whole in dynamic_imports(module):
            (names.add if whole else prefixes.add)(name)
        fresh = {taken for name in names for taken in _files_of(folder, name)} - found
        found |= fresh
        waiting += fresh
    guessed = {file for prefix in prefixes for file in _files_like(folder, prefix)}
    return found | guessed, found


def _files_of(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files of a top-level module or package beside the job."""
    module = find_beside(folder, name)
    if module and module.parent == folder:
        yield module
    elif (folder / name).is_dir():  # with or without __init__.py
        yield from _python_files(folder / name, folder, set())


def _files_like(folder: Path, prefix: str) -> Iterator[Path]:
    """Yield the files of every module and package beside the job whose name begins with `prefix`."""
    for child in sorted(folder.iterdir()):
        if not child.name.startswith(prefix) or _is_foreign(child):
            continue
        if not child.resolve().is_relative_to(folder.resolve()):
            continue
        if child.is_dir():
            yield from _python_files(child, folder, set(), strict=False)
        elif child.suffix == ".py" and child.is_file():
            yield child


def _is_foreign(path: Path) -> bool:
    return (
        path.name.startswith((".", "__pycache__")) or path.name in _NOT_OURS or (path / "pyvenv.cfg").exists()
    )


def _python_files(package: Path, folder: Path, seen: set[Path], strict: bool = True) -> Iterator[Path]:
    if not strict and (_is_foreign(package) or not package.resolve().is_relative_to(folder.resolve())):
        return
    _check_inside(package, folder)
    seen.add(package.resolve())
    for child in package.iterdir():
        if child.name.startswith((".", "__pycache__")):
            continue
        if child.is_dir() and child.resolve() not in seen:
            yield from _python_files(child, folder, seen, strict)
        elif child.suffix == ".py" and not child.is_dir():
            yield child


def _find_data(folder: Path, patterns: Sequence[str], reads: Reads) -> tuple[set[Path], list[str]]:
    """Return the data files; note it where the folder data/ cannot be bundled and no code mentions it."""
    excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    found: set[Path] = set()
    for pattern in patterns:
        if not pattern.startswith("!"):
            found |= _matching(folder, pattern)
    named = _check_data(folder, _without(folder, found, excluded), "files")
    try:
        beside = _without(folder, set(_data_files(folder / DATA_FOLDER, folder, set())), excluded)
        return _check_data(folder, named | beside, DATA_FOLDER), []
    except ProgramError as error:
        if reads.mentions(DATA_FOLDER):
            raise
        why = str(error).splitlines()[0]
        return named, [
            f"the folder {DATA_FOLDER}/ does not travel with the job, which does not name it: {why}"
        ]


def _matching(folder: Path, pattern: str) -> set[Path]:
    """Return the files that a pattern of the sweep file matches; a folder stands for everything in it."""
    found: set[Path] = set()
    for hit in folder.glob(pattern.rstrip("/") or pattern):
        found |= set(_data_files(hit, folder, set())) if hit.is_dir() else {hit}
    if not found:
        rule = f"each pattern under `files` names files, got '{pattern}', which matches none in '{folder}'"
        raise ProgramError(f"{rule}\nwrite it relative to the job's folder, such as images/** or points.csv")
    return found


def _data_files(place: Path, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield all files in a folder except hidden ones; a folder that links back to itself is visited once."""
    if not place.is_dir():
        return
    _check_inside(place, folder, "data")
    seen.add(place.resolve())
    try:
        children = sorted(place.iterdir())
    except OSError as error:
        raise _unreadable(place, folder, error) from error
    for child in children:
        if child.name.startswith(".") or child.name == "__pycache__":
            continue
        if not child.is_dir():
            yield child
            if len(seen) > DATA_FILES:
                return
            seen.add(child)  # counted here so that a huge tree is not walked to its end
        elif child.resolve() not in seen:
            yield from _data_files(child, folder, seen)


def _without(folder: Path, found: set[Path], excluded: Sequence[str]) -> set[Path]:
    """Drop paths that match a pattern, or lie in a folder that does."""

    def is_left_out(file: Path) -> bool:
        inside = PurePosixPath(file.relative_to(folder).as_posix())
        ways = [inside, *inside.parents][:-1]
        return any(way.match(pattern.rstrip("/").removesuffix("/**")) for way in ways for pattern in excluded)

    return {file for file in found if not is_left_out(file)}


def _check_data(folder: Path, files: set[Path], key: str) -> set[Path]:
    """Refuse data that cannot be bundled.

    Raises:
        ProgramError: too many files or too large, outside the folder, unreadable, or not regular files.
    """
    remedy = (
        f'leave some out under `files`, as in `files: ["!{DATA_FOLDER}", points.csv]`, and let the job read '
        "them by an absolute path that every worker has"
    )
    if len(files) > DATA_FILES:
        raise ProgramError(
            f"at most {DATA_FILES:,} data files travel with a job, '{key}' holds more\n{remedy}"
        )
    total, largest = 0, (0, "")
    for file in sorted(files):
        _check_inside(file, folder, "data")
        if not os.access(file, os.R_OK):
            raise _unreadable(file, folder, PermissionError(0, "Permission denied"))
        size = file.stat().st_size
        total, largest = total + size, max(largest, (size, file.relative_to(folder).as_posix()))
    if total > DATA_BYTES:
        rule = (
            f"at most {DATA_BYTES >> 20} MB of data travel with a job, these are "
            f"{total / (1 << 20):,.0f} MB; the largest is '{largest[1]}'"
        )
        raise ProgramError(f"{rule}\n{remedy}")
    return files


def _check_reads(folder: Path, reads: Reads, taken: set[Path]) -> None:
    """Refuse a job that opens a file beside it that is not bundled.

    Raises:
        ProgramError: it does.
    """
    for one in reads.needed:
        missing = _missing(folder, one.path, taken)
        if missing:
            rule = f"a job's data files travel with it, '{one.path}' does not ({one.where})"
            remedy = f'add `files: ["{missing}"]` to the sweep file'
            remedy += f", or put it into a folder {DATA_FOLDER}/ beside the job"
            raise ProgramError(f"{rule}\n{remedy}")


def _optional_notes(folder: Path, reads: Reads, taken: set[Path]) -> Iterator[str]:
    for one in reads.optional:
        missing = _missing(folder, one.path, taken)
        if missing:
            yield (
                f"'{one.path}' does not travel with the job, which checks for it ({one.where}); "
                f'`files: ["{missing}"]` in the sweep file takes it along'
            )


def _missing(folder: Path, path: str, taken: set[Path]) -> str | None:
    """Return the pattern that would bundle a path that exists beside the job, or None if it already is."""
    known, _, rest = path.partition("*")
    whole = folder / known if not rest and known == path else folder / known.rpartition("/")[0]
    if whole == folder or not whole.exists():
        return None
    if not whole.is_dir():
        return None if whole in taken else path
    if any(whole in file.parents for file in taken) or not any(whole.iterdir()):
        return None
    return f"{whole.relative_to(folder).as_posix()}/**"


def _check_inside(path: Path, folder: Path, what: str = "code") -> None:
    """Refuse anything but a file or folder inside the job's own folder.

    Raises:
        ProgramError: the path leads out of it, or is neither.
    """
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        rule = f"a job's {what} lies in its own folder, '{path.relative_to(folder)}' leads to '{real}'"
        raise ProgramError(f"{rule}\ncopy it into '{folder}'")
    if not (real.is_file() or real.is_dir()):
        rule = f"a job's {what} is regular files, '{path.relative_to(folder)}' is not one"
        raise ProgramError(f"{rule}\nreplace it with a regular file")


def _unreadable(path: Path, folder: Path, error: OSError) -> ProgramError:
    rule = f"a job's files are read at submit, '{path.relative_to(folder)}' cannot be: {error.strerror}"
    return ProgramError(f"{rule}\ncheck its permissions")

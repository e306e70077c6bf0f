"""A job's code as one zip: the job's file and the files beside it that it imports.

The same files give the same bytes on every machine, so that the digest names the code.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasweep.jobs.code.reading import find_beside, imported_names, read_module
from kerasweep.jobs.errors import Damaged, ProgramError

LIMIT_BYTES = 16 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


@dataclass(frozen=True)
class Bundle:
    """A job's code.

    Args:
        data: the zip.
        sha256: of data, hex.
        entry: the job's file in it.
        files: all paths in it, sorted, with /.
    """

    data: bytes
    sha256: str
    entry: str
    files: tuple[str, ...]


def bundle(path: Path) -> Bundle:
    """Bundle a job.

    Only what is imported from the job's own folder is taken: modules, and packages with all their .py files.

    Args:
        path: the job's file.

    Raises:
        ProgramError: a file is not Python, or not a regular file inside the folder, or all are too large.
    """
    folder = path.parent
    contents: dict[str, bytes] = {}
    total = 0
    for file in sorted(_collect(path), key=lambda file: file.relative_to(folder).as_posix()):
        data = file.read_bytes()
        total += len(data)
        if total > LIMIT_BYTES:
            rule = f"a job's code holds at most {LIMIT_BYTES:,} bytes, with '{file.name}' it holds {total:,}"
            raise ProgramError(f"{rule}\nkeep data out of the .py files that it imports")
        contents[file.relative_to(folder).as_posix()] = data
    data = _zip(contents)
    return Bundle(data, hashlib.sha256(data).hexdigest(), path.name, tuple(contents))


def unpack(data: bytes, folder: Path) -> None:
    """Write a bundle's files into a folder, whole or not at all.

    Several processes may unpack the same bundle into the same folder.

    Raises:
        Damaged: it is no bundle, or one that would write outside the folder.
    """
    contents = _unzip(data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in contents.items():
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        _move_into_place(fresh, folder, list(contents))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _collect(path: Path) -> set[Path]:
    """Return the job's file and all that it imports from beside it, directly or not."""
    folder, found, waiting = path.parent, {path}, [path]
    while waiting:
        file = waiting.pop()
        if file.exists():
            _check_inside(file, folder)
        for name in imported_names(read_module(file)):
            fresh = set(_files_of(folder, name)) - found
            found |= fresh
            waiting += fresh
    return found


def _files_of(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files of a top-level module or package beside the job."""
    module = find_beside(folder, name)
    if module and module.parent == folder:
        yield module
    elif (folder / name).is_dir():  # with or without __init__.py
        yield from _python_files(folder / name, folder, set())


def _python_files(package: Path, folder: Path, seen: set[Path]) -> Iterator[Path]:
    _check_inside(package, folder)
    seen.add(package.resolve())
    for child in package.iterdir():
        if child.name.startswith((".", "__pycache__")):
            continue
        if child.is_dir() and child.resolve() not in seen:
            yield from _python_files(child, folder, seen)
        elif child.suffix == ".py" and not child.is_dir():
            yield child


def _check_inside(path: Path, folder: Path) -> None:
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        rule = f"a job's code lies in its own folder, '{path.relative_to(folder)}' leads to '{real}'"
        raise ProgramError(f"{rule}\ncopy it into '{folder}'")
    if not (real.is_file() or real.is_dir()):
        rule = f"a job's code is regular files, '{path.relative_to(folder)}' is none"
        raise ProgramError(f"{rule}\nreplace it by a plain file")


def _zip(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)  # stored: what zlib writes differs between its versions
    return buffer.getvalue()


def _unzip(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > LIMIT_BYTES:
                raise Damaged(
                    f"a bundle holds at most {LIMIT_BYTES:,} bytes, this one more\nsubmit the sweep again"
                )
            return {_safe_name(entry): archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise Damaged(f"a bundle is a zip, this is none: {error}\nsubmit the sweep again") from error


def _safe_name(entry: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    path = PurePosixPath(entry.filename)
    plain = kind in (0, stat.S_IFREG) and not entry.is_dir() and entry.compress_type == zipfile.ZIP_STORED
    inside = not path.is_absolute() and ".." not in path.parts and path.parts
    if not (plain and inside) or "\\" in entry.filename or ":" in entry.filename:
        raise Damaged(
            f"a bundle holds plain files inside its folder, got '{entry.filename}'\nsubmit the sweep again"
        )
    return entry.filename


def _move_into_place(fresh: Path, folder: Path, names: list[str]) -> None:
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        _replace_each(fresh, folder, names)


def _replace_each(fresh: Path, folder: Path, names: list[str]) -> None:
    """Give a folder that is there already the same files again, whoever reads them meanwhile."""
    for name in names:
        target = folder / name
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            rule = f"a bundle stays in its folder, '{target.parent}' leads out of it"
            raise Damaged(f"{rule}\nremove '{folder}'")
        target.parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(target)

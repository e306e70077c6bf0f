"""A job's bundle: one zip of its file, the modules beside it that it imports, and its data files.

The same files give the same bytes on every machine, so the digest identifies the code.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasweep.jobs.code.travel import DATA_BYTES, find_travellers
from kerasweep.jobs.errors import Damaged, ProgramError

LIMIT_BYTES = 16 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold


@dataclass(frozen=True)
class Bundle:
    """A job's code and data files.

    Args:
        data: the zip.
        sha256: of data, hex.
        entry: the path of the job's file in it.
        files: all paths in it, sorted, with /.
    """

    data: bytes
    sha256: str
    entry: str
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


def bundle(path: Path, files: Sequence[str] = ()) -> Bundle:
    """Bundle a job.

    From the job's folder it takes the modules that the job imports, packages with all their .py files, the
    folder data/, and what `files` names.

    Args:
        path: the job's file.
        files: patterns of data files, relative to the job's folder; a leading ! excludes files.

    Raises:
        ProgramError: a file is not Python, not a regular file inside the folder, or the files are too large
            in total, or the job opens a file beside it that is not in the bundle.
    """
    folder, found = path.parent, find_travellers(path, files)
    contents: dict[str, bytes] = {}
    total = 0
    for file in sorted(found.code | found.data, key=lambda file: file.relative_to(folder).as_posix()):
        data = file.read_bytes()
        total += len(data) if file in found.code else 0
        if total > LIMIT_BYTES:
            rule = f"a job's code holds at most {LIMIT_BYTES:,} bytes, got {total:,} with '{file.name}'"
            raise ProgramError(f"{rule}\nkeep data out of the .py files that it imports")
        contents[file.relative_to(folder).as_posix()] = data
    data = _zip(contents)
    return Bundle(data, hashlib.sha256(data).hexdigest(), path.name, tuple(contents), found.notes)


def unpack(data: bytes, folder: Path) -> None:
    """Write a bundle's files into a folder, all or none.

    Several processes may unpack the same bundle into the same folder.

    Raises:
        Damaged: this is not a bundle, or a file would be written outside the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _move_into_place(fresh, folder, _extract(data, fresh))
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _zip(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in contents.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)  # stored uncompressed: zlib's output differs between versions
    return buffer.getvalue()


def _extract(data: bytes, folder: Path) -> list[str]:
    """Write the entries into a new folder, one at a time; return their names."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            most = LIMIT_BYTES + DATA_BYTES
            if sum(entry.file_size for entry in entries) > most:
                raise Damaged(
                    f"a bundle holds at most {most:,} bytes, this one holds more\nsubmit the sweep again"
                )
            names = [_safe_name(entry) for entry in entries]
            for name in names:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
            return names
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, IndexError) as error:
        raise Damaged(
            f"a bundle must be a zip file, this one is not: {error}\nsubmit the sweep again"
        ) from error


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
    """Replace the files of an existing folder with the same files; others may be reading them."""
    for name in names:
        target = folder / name
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            rule = f"a bundle must stay in its folder, '{target.parent}' leads out of it"
            raise Damaged(f"{rule}\nremove '{folder}'")
        target.parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(target)

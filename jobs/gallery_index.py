"""The gallery: its entries, and copies of them to start from.

Entries are package data (`gallery/<name>/` with a job file, a sweep file and perhaps a script); nothing
imports them.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from kerasweep.jobs.errors import DestinationError, InputError

JOB_FILE = "train.py"


@dataclass(frozen=True)
class Entry:
    """One ready-made job.

    Args:
        name: its folder's name, as in `kerasweep init NAME`.
        description: the first line of its job file's docstring.
        files: the names of its files, sorted.
    """

    name: str
    description: str
    files: tuple[str, ...]


def list_gallery() -> tuple[Entry, ...]:
    """Return every entry of the gallery, by name."""
    folders = [folder for folder in _gallery().iterdir() if folder.is_dir() and (folder / JOB_FILE).is_file()]
    return tuple(_read_entry(folder) for folder in sorted(folders, key=lambda folder: folder.name))


def find_entry(name: str) -> Entry:
    """Return the entry of that name; an unknown name raises InputError with the nearest one."""
    entries = {entry.name: entry for entry in list_gallery()}
    if name in entries:
        return entries[name]
    near = get_close_matches(name, entries, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"the gallery's entries are {', '.join(entries)}, got {name!r}\n{hint}`kerasweep init` lists them; "
        "`kerasweep init mlp` is a first one"
    )


def copy_entry(name: str, folder: Path) -> tuple[Path, ...]:
    """Write the entry's files into a folder, creating it if necessary.

    Args:
        name: the entry's name.
        folder: where to write.

    Returns:
        The files written.

    Raises:
        InputError: no entry has that name.
        DestinationError: one of the files exists already; nothing is written.
    """
    entry = find_entry(name)
    present = [file for file in entry.files if (folder / file).exists()]
    if present:
        raise DestinationError(
            f"files are overwritten with --force only, and {folder} already holds {', '.join(present)}\n"
            "Name an empty folder, move them away, or add --force"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in entry.files:
        (folder / file).write_bytes((_gallery() / name / file).read_bytes())
    return tuple(folder / file for file in entry.files)


def _gallery() -> Traversable:
    return files("kerasweep.jobs") / "gallery"


def _read_entry(folder: Traversable) -> Entry:
    docstring = ast.get_docstring(ast.parse((folder / JOB_FILE).read_text(encoding="utf-8"))) or ""
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return Entry(folder.name, docstring.partition("\n")[0], tuple(names))

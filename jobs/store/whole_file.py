"""Writes files durably, whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_UNSYNCABLE = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES}
)

# The leading dot keeps unfinished files out of every listing of keys.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}~")
#: Device numbers of file systems already warned about.
_told: set[int] = set()


def write_whole(target: Path, chunks: Iterable[bytes], *, below: Path | None = None) -> None:
    """Write a file under a temporary name, sync it, rename it, and sync the folder.

    Args:
        target: the file; an existing one is replaced.
        chunks: its content; an error while iterating leaves nothing behind.
        below: create missing folders below this one.

    Raises:
        OSError: it could not be written; the target is unchanged.
    """
    if below:
        _make_folders(target.parent, below)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}~")
    try:
        with temporary.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def sweep_leftovers(root: Path, older_than_s: float) -> int:
    """Remove temporary files and the content of temporary folders below a folder; return the number of files.

    Args:
        root: the folder.
        older_than_s: only what was untouched for this long, in seconds.
    """
    latest = time.time() - older_than_s
    swept = 0
    for folder, _, names in os.walk(root, topdown=False):
        is_temporary = _TEMPORARY.fullmatch(Path(folder).name) is not None
        for name in names:
            if is_temporary or _TEMPORARY.fullmatch(name):
                swept += _remove_if_old(Path(folder, name), latest)
        if is_temporary and Path(folder).stat().st_mtime <= latest:
            with suppress(OSError):  # still in use
                os.rmdir(folder)
    return swept


def _remove_if_old(path: Path, latest: float) -> bool:
    try:
        if path.stat().st_mtime > latest:
            return False
        path.unlink()
    except FileNotFoundError:  # its writer has finished, or another process removed it
        return False
    return True


def _make_folders(folder: Path, below: Path) -> None:
    """Create missing folders, each durable before anything is put into it."""
    missing = []
    while folder != below and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    """Make a file's name durable; warn once if the file system does not support that, and continue."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        # Network and FUSE file systems report these for a folder; a failing disk reports EIO.
        if exc.errno not in _UNSYNCABLE:
            raise
        _tell_unsyncable(folder.stat().st_dev, str(folder), str(exc.strerror))


def _tell_unsyncable(device: int, folder: str, why: str) -> None:
    if device not in _told:
        _told.add(device)
        log.warning(
            "folders of the file system at %s cannot be synced (%s); a power cut may take its newest files",
            folder,
            why,
        )

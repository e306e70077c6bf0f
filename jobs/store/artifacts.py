"""The artifacts (bundles, checkpoints and models), stored anywhere that fsspec reaches.

An artifact becomes visible whole or not at all: on a file system it is written under a unique temporary name,
synced and renamed; on an object store a single put does it. Its SHA-256 is recorded, and every reader checks
it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from kerasweep.jobs.addresses import check_artifacts, shown
from kerasweep.jobs.errors import Damaged, InputError, KerasweepError, OutOfReach
from kerasweep.jobs.store.whole_file import sweep_leftovers, write_whole

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
_IS_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(://|::)")
_CHUNK_BYTES = 1 << 20

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is spent",
    errno.EFBIG: "the file is too large",
}
_REMEDY = "Check that it exists and is writable (KERASWEEP_ARTIFACTS_URL)."
_FULL_REMEDY = "Free some space there, or point KERASWEEP_ARTIFACTS_URL to a larger disk."


@dataclass(frozen=True)
class ArtifactRef:
    """An artifact on record.

    Args:
        kind: bundle, checkpoint or model.
        key: its path below the artifacts' URL.
        sha256: the digest of its bytes, in hexadecimal.
        bytes: its size.
        epoch: the epoch after which it was written, from 1; 0 if not applicable.
    """

    kind: str
    key: str
    sha256: str
    bytes: int
    epoch: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it as a dict of plain values."""
        return asdict(self)


class Artifacts:
    """A folder, or anything else that fsspec opens, that stores artifacts by key.

    Args:
        url: a path, or an fsspec URL such as `s3://bucket/prefix`.
        options: fsspec options, such as an endpoint; fsspec reads its own configuration too.

    Raises:
        InputError: fsspec does not know this kind of URL, or the package for it is missing.
        OutOfReach: the location cannot be written.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        check_artifacts(url, shared=False)
        self._fs, root = _opened(url, options)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._root = root.rstrip("/")
        if self._local:
            with self._translated():
                Path(self._root).mkdir(parents=True, exist_ok=True)

    def uri(self, key: str) -> str:
        """Return the full URL of a key."""
        return str(self._fs.unstrip_protocol(self._path(key)))

    def put(self, key: str, data: bytes) -> tuple[str, int]:
        """Write the bytes durably, whole or not at all; return their SHA-256 and size.

        Raises:
            OutOfReach: they could not be written; nothing of them is visible.
        """
        path = self._path(key)
        with self._translated():
            if self._local:
                self._write(path, [data])
            else:
                self._fs.pipe_file(path, data)
        return hashlib.sha256(data).hexdigest(), len(data)

    def put_file(self, key: str, source: Path) -> tuple[str, int]:
        """Write a file's bytes as `put` does."""
        path = self._path(key)
        sha256, size = digest_of(source)
        with self._translated():
            if self._local:
                with source.open("rb") as file:
                    self._write(path, iter(lambda: file.read(_CHUNK_BYTES), b""))
            else:
                self._fs.put_file(str(source), path)
        return sha256, size

    def beside(self) -> AbstractContextManager[str] | None:
        """Return a context manager for a temporary folder on the artifacts' file system; None if that is
        remote.

        What a killed process leaves there is removed with other temporary files.
        """
        return (
            TemporaryDirectory(prefix=".work.", suffix=f".{token_hex(4)}~", dir=self._root)
            if self._local
            else None
        )

    def get(self, key: str, sha256: str) -> bytes:
        """Return the bytes of a key.

        Raises:
            Damaged: they are gone, or differ from those on record.
            OutOfReach: the store does not respond.
        """
        return b"".join(self._checked(key, sha256))

    def fetch(self, key: str, sha256: str, target: Path) -> None:
        """Copy a key into a file that appears whole or not at all, checking its digest.

        Raises:
            Damaged: as `get`.
            OutOfReach: the store does not respond, or the target cannot be written.
        """
        try:
            write_whole(target, self._checked(key, sha256))
        except OSError as exc:  # errors of the reading side are already translated
            raise OutOfReach(
                "The destination", str(target), "Check that it has room and can be written.", str(exc)
            ) from exc

    def peek(self, key: str) -> bytes | None:
        """Return the bytes of a key that has no recorded digest, or None if it does not exist.

        Raises:
            OutOfReach: the store does not respond.
        """
        with self._translated():
            try:
                return bytes(self._fs.cat_file(self._path(key)))
            except FileNotFoundError:
                self._expect_root()
                return None

    @property
    def place(self) -> str:
        """Return an identifier that distinguishes a folder from a copy of it; for an object store, its
        address.

        Raises:
            OutOfReach: the folder does not respond.
        """
        if not self._local:
            return str(self._root)
        with self._translated():
            return f"folder {Path(self._root).stat().st_ino}"

    def age_s(self, key: str) -> float:
        """Return the seconds since a key was written, by the clocks of the store and of this machine; 0 if
        missing.

        Raises:
            OutOfReach: the store does not respond.
        """
        with self._translated():
            try:
                written: datetime = self._fs.modified(self._path(key))
                return (datetime.now(UTC) - written).total_seconds()
            except FileNotFoundError:
                return 0.0

    def delete(self, key: str) -> None:
        """Remove a key. Missing keys are ignored."""
        with self._translated(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def delete_below(self, prefix: str) -> int:
        """Remove everything below a prefix, including folders; return the number of bytes freed."""
        path = self._path(prefix)
        with self._translated():
            self._fs.invalidate_cache()
            if not self._fs.exists(path):
                return 0
            held = int(self._fs.du(path))
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm(path, recursive=True)
            return held

    def drop_empty_folders(self, prefix: str) -> None:
        """Remove empty folders below a prefix; object stores have none."""
        if self._local:
            with self._translated():
                for folder, _, _ in os.walk(self._path(prefix), topdown=False):
                    with contextlib.suppress(OSError):  # not empty
                        os.rmdir(folder)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below a prefix, sorted, without temporary files."""
        base = self._path(prefix) if prefix else self._root
        with self._translated():
            self._fs.invalidate_cache()  # others write here concurrently
            self._expect_root()
            found = self._fs.find(base) if self._fs.exists(base) else []
        keys = (str(path)[len(self._root) :].lstrip("/") for path in found)
        return sorted(key for key in keys if _KEY.fullmatch(key))

    def sweep_temporary(self, older_than_s: float) -> int:
        """Remove temporary files left behind by writers that died; return their number.

        Args:
            older_than_s: only files untouched for this long, so that live writers keep theirs.
        """
        if not self._local:
            return 0  # object stores show nothing of an interrupted put
        with self._translated():
            return sweep_leftovers(Path(self._root), older_than_s)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise InputError(f"an artifact's key is made of names and slashes, got {key[:80]!r}")
        return f"{self._root}/{key}"

    def _write(self, path: str, chunks: Iterable[bytes]) -> None:
        self._expect_root()
        write_whole(Path(path), chunks, below=Path(self._root))

    def _expect_root(self) -> None:
        """Refuse to write below a folder that is gone: nobody would look for the artifact in a new one."""
        if self._local:
            there = Path(self._root).is_dir()
        else:
            bucket = self._root.split("/")[0]
            there = not bucket or self._fs.exists(bucket)
        if not there:
            raise FileNotFoundError(errno.ENOENT, "the folder itself is gone", self._root)

    def _checked(self, key: str, sha256: str) -> Iterator[bytes]:
        """Yield the bytes of a key in chunks; raise at the end if they do not match the digest on record."""
        path, found, size = self._path(key), hashlib.sha256(), 0
        with self._translated():
            try:
                with self._fs.open(path, "rb", cache_type="readahead") as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        found.update(chunk)
                        size += len(chunk)
                        yield chunk
            except FileNotFoundError as exc:
                self._expect_root()
                raise Damaged(f"artifact {key} must be in {self.url}, but it is gone") from exc
        if found.hexdigest() != sha256:
            got = f"{found.hexdigest()[:12]}… ({size} bytes)"
            raise Damaged(f"artifact {key} must have SHA-256 {sha256[:12]}…, got {got}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except KerasweepError:
            raise
        except OSError as exc:
            full = _FULL.get(exc.errno or 0)
            cause = f"{full}: {exc}" if full else str(exc)
            raise OutOfReach(
                "The artifact store", self.url, _FULL_REMEDY if full else _REMEDY, cause
            ) from exc
        except Exception as exc:
            if self._local:  # belongs to another user
                raise
            raise OutOfReach(
                "The artifact store", self.url, _REMEDY, f"{type(exc).__name__}: {exc}"[:160]
            ) from exc


def _opened(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    """Return the file system and the path in it; a plain path is taken literally, whatever it contains."""
    if not _IS_URL.match(url):
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(url))
    try:
        fs, root = fsspec.core.url_to_fs(url, **options)
    except OSError as exc:
        raise OutOfReach("The artifact store", url, _REMEDY, str(exc)) from exc
    except Exception as exc:
        rule = "the artifacts (--artifacts, KERASWEEP_ARTIFACTS_URL) must be a folder or an fsspec URL"
        raise InputError(f"{rule}, got {shown(url)}; {type(exc).__name__}: {exc}"[:400]) from exc
    return fs, str(root)


def digest_of(path: Path) -> tuple[str, int]:
    """Return a file's SHA-256 and size in bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size

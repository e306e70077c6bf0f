"""A file that at most one process holds, through a lock that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_TRIES, _PAUSE_S = 5, 0.01


class HeldFile:
    """A small text that anyone may read, and that belongs to the process that holds the file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: int | None = None

    def hold(self, *, create_folder: bool = True) -> bool:
        """Hold the file; return False if another process holds it.

        Args:
            create_folder: create its folder if that is missing; otherwise such a file is not held.
        """
        for _ in range(_TRIES):  # another process may only be looking, or may just have removed it
            if create_folder:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._held is not None or self._try():
                return True
            time.sleep(_PAUSE_S)
        return False

    @property
    def lent(self) -> int:
        """The descriptor by which a child process holds the file too, until both have released it.

        Raises:
            ValueError: it is not held here.
        """
        if self._held is None:
            raise ValueError(f"a file must be held to be lent, got {self.path}")
        return self._held

    def adopt(self, descriptor: int) -> None:
        """Hold the file by a descriptor that the parent process lent."""
        os.set_inheritable(descriptor, False)
        self._held = descriptor

    @property
    def held(self) -> bool:
        """Whether any process, this one included, holds it."""
        if self._held is not None:
            return True
        try:
            looking = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(looking)
        return False

    @property
    def in_place(self) -> bool:
        """Whether the file that is held here still lies where others look for it."""
        return self._held is not None and _same(self._held, self.path)

    def read(self) -> str:
        """Return the text; empty if there is no file."""
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def write(self, text: str) -> None:
        """Replace the text; only for its holder."""
        if self._held is not None:
            os.ftruncate(self._held, 0)
            os.pwrite(self._held, text.encode(), 0)

    def release(self) -> None:
        """Let others hold it."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def remove(self) -> None:
        """Delete the file, if it is held here and in place, and release it."""
        if self.in_place:
            self.path.unlink(missing_ok=True)
        self.release()

    def _try(self) -> bool:
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the folder is missing
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        if not _same(file, self.path):
            os.close(file)
            return False
        self._held = file
        return True


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False

"""The files that a trial wrote into its working folder: they travel with its checkpoints, up to a size."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasweep.jobs.errors import Damaged
from kerasweep.workers.trainer.job.working_folder import fill

#: Of all files of a trial together.
LIMIT_BYTES = 16 << 20
TOO_LARGE = (
    f"the files that the trial wrote by relative path take more than {LIMIT_BYTES >> 20} MiB, so they are in "
    "no checkpoint: where another worker resumes it, they are gone; write large files to an absolute path"
)


class TrialFiles:
    """What a trial has beside the job's own files.

    Args:
        folder: the trial's working folder.
        bundle: the job's files, copied into it with their times.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        self._folder, self._bundle = folder, bundle

    def take(self) -> dict[str, NDArray[Any]] | None:
        """Return the content of each file as uint8, by relative path; None where they are too large."""
        found: dict[str, NDArray[Any]] = {}
        left = LIMIT_BYTES
        for path in self._own():
            with contextlib.suppress(OSError):  # removed meanwhile
                left -= path.stat().st_size
                if left < 0:
                    return None
                content = np.frombuffer(path.read_bytes(), np.uint8)
                found[path.relative_to(self._folder).as_posix()] = content
        return found

    def restore(self, saved: Mapping[str, NDArray[Any]], holders: Iterable[Any]) -> None:
        """Put files back as they were, and remove those that were written since.

        Args:
            saved: as `take` returned them.
            holders: objects whose open files go on behind what is restored, as those of a CSVLogger.

        Raises:
            Damaged: a path leads out of the folder.
        """
        targets = {self._inside(name): content for name, content in saved.items()}
        open_files = [value for holder in holders for value in vars(holder).values() if _is_open(value)]
        for file in open_files:
            file.flush()
        for path in self._own():
            if path not in targets:
                path.unlink(missing_ok=True)
        fill(self._folder, self._bundle)  # what the trial had changed and not yet at that time
        for path, content in targets.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())
        for file in open_files:
            with contextlib.suppress(OSError, ValueError):
                file.seek(0, os.SEEK_END)

    def _own(self) -> list[Path]:
        """Return the files that the trial made or changed."""
        found = []
        for base, folders, files in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            paths = (Path(base, name) for name in sorted(files))
            found += [path for path in paths if not path.is_symlink() and not self._is_of_job(path)]
        return [path for path in found if path.is_file()]

    def _is_of_job(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            known, here = (self._bundle / path.relative_to(self._folder)).stat(), path.stat()
            return (known.st_size, known.st_mtime_ns) == (here.st_size, here.st_mtime_ns)
        return False

    def _inside(self, name: str) -> Path:
        path = self._folder / name
        if ".." in Path(name).parts or path.is_symlink() or not path.is_relative_to(self._folder):
            raise Damaged(f"a checkpoint's file must lie in the trial's folder, got {name!r}")
        return path


def _is_open(value: Any) -> bool:
    return isinstance(value, io.IOBase) and not value.closed and value.writable()

"""The jobs' code on this worker: fetched by digest, unpacked once."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from kerasweep.jobs.code.bundle import unpack
from kerasweep.jobs.errors import Damaged
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts

_SHA256 = re.compile("[0-9a-f]{64}")


class BundleShelf:
    """Unpacked bundles by digest. Safe to share between threads.

    Args:
        artifacts: where the bundles are.
        folder: a private folder to unpack into.
    """

    def __init__(self, artifacts: Artifacts, folder: Path) -> None:
        self._artifacts, self._folder = artifacts, folder
        self._lock = threading.Lock()

    def folder_of(self, ref: ArtifactRef) -> Path:
        """Return the folder with the bundle's files.

        Raises:
            Damaged: the bundle is gone or does not match its recorded digest.
            OutOfReach: the artifacts do not respond.
        """
        if not _SHA256.fullmatch(ref.sha256):  # it names a folder here
            raise Damaged(f"a bundle's digest is a SHA-256 in hexadecimal, got {ref.sha256!r}")
        folder = self._folder / ref.sha256
        with self._lock:
            if not folder.is_dir():
                unpack(self._artifacts.get(ref.key, ref.sha256), folder)
        return folder

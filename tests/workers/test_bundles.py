"""What the records say of a bundle is not trusted: it names a folder of this worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from kerasweep.jobs.errors import Damaged
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.workers.bundles import BundleShelf


@pytest.mark.parametrize("digest", ["", "..", "A" * 64, "0" * 63, "{elsewhere}"])
def test_a_digest_is_never_a_path(tmp_path: Path, digest: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    digest = digest.format(elsewhere=tmp_path / "elsewhere")
    shelf = BundleShelf(Artifacts(str(tmp_path / "artifacts")), tmp_path / "shelf")
    with pytest.raises(Damaged, match="SHA-256"):
        shelf.folder_of(ArtifactRef("bundle", "bundles/x.zip", digest, 1))

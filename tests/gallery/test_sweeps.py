"""Each entry's sweep, as `kerasweep init` writes it, run whole on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kerasweep.jobs.gallery_index import copy_entry
from kerasweep.jobs.spec import load_spec

KERASWEEP = str(Path(sys.executable).with_name("kerasweep"))


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_sweep_finds_a_trial_within_the_bound(
    entry: str,
    tmp_path: Path,
    offline: Mapping[str, str],
    missed: Callable[[str, Mapping[str, float]], list[str]],
) -> None:
    copy_entry(entry, tmp_path)
    command = [KERASWEEP, "run", "sweep.yaml", "-o", "json"]
    child = subprocess.run(
        command, capture_output=True, text=True, env=dict(offline), cwd=tmp_path, timeout=540
    )
    assert child.returncode == 0, child.stderr
    best = json.loads(child.stdout)
    spec = load_spec(tmp_path / "sweep.yaml")
    assert best["name"] == spec.name
    assert best["value"] == best["metrics"][spec.metric.name]
    assert missed(entry, {**best["metrics"], spec.metric.name: best["value"]}) == []

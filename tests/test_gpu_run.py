"""A small form of the GPU acceptance run, on the CPU: the same bits every way, and a report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"
PARTS = ("gallery_plain", "mirrored")


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_the_parts_run_on_a_cpu_and_the_report_holds_what_they_found(tmp_path: Path) -> None:
    flags = ["--device", "cpu", "--small", "--together", "2", "--budget", "500", "--parts", *PARTS]
    done = subprocess.run(
        [sys.executable, str(RUN), *flags, "--out", str(tmp_path / "report.json")],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    assert done.returncode == 0, (done.stderr, report)
    rows = {part["name"]: part["found"]["rows"] for part in report["parts"]}
    ways = [row["way"] for row in rows["gallery_plain"]]
    assert ways == ["fit", "fit again", "pack of one", "pack of eight", "after a kill"]
    assert [row["same"] for row in rows["gallery_plain"]] == [True] * 5
    assert [row["same"] for row in rows["mirrored"]] == [True] * 2
    assert "| mlp | after a kill |" in (tmp_path / "report.md").read_text()

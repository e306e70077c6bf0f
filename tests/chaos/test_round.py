"""One short round under faults: the sweep ends as the one left alone did. `make chaos` runs long ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import rounds


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_under_faults_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    file = rounds.write_job(tmp_path / "job", small=True)
    reference = rounds.run_reference(tmp_path / "left-alone", file, print)
    assert reference.trials == 16
    verdict = rounds.run_disturbed(
        tmp_path / "disturbed", file, reference, kind="sqlite", seed=1, faults=12, tell=print, share=0.5
    )
    assert sum(verdict.faults.values()) == 12
    assert verdict.attempts > reference.trials, "the faults must have cost some attempts"
    assert verdict.findings == []
    assert verdict.differences == []

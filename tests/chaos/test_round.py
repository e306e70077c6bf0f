"""One short round under faults, with halving: the sweep decides and ends like the undisturbed one.

`make chaos` runs long ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import rounds

KINDS = (
    "kill_worker", "kill_trainer", "kill_scheduler", "kill_supervisor", "preempt_worker", "freeze_worker",
    "lose_redis", "cut_network", "push_garbage", "broadcast", "damage_keys", "lose_store",
)  # fmt: skip


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_sweep_under_faults_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    file = rounds.write_job(tmp_path / "job", small=True, halving=True)
    reference = rounds.run_reference(tmp_path / "left-alone", file, print)
    assert reference.trials == 16
    options = {"kind": "sqlite", "seed": 1, "faults": len(KINDS), "share": 0.4, "kinds": KINDS, "tell": print}
    verdict = rounds.run_disturbed(tmp_path / "disturbed", file, reference, **options)
    assert verdict.faults == dict.fromkeys(KINDS, 1)
    assert verdict.attempts > reference.trials, "a worker that is killed while it trains costs an attempt"
    assert verdict.findings == []
    assert verdict.differences == []

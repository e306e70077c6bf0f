"""What commands and plots show of a sweep with `repeats`: means, and their spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from staged import SWEEP, Stage

from kerasweep import Client
from kerasweep.scheduler.client.sweep import Sweep


@pytest.fixture
def sweep(stage: Stage, folder: Path) -> Sweep:
    """A sweep of two variants under two seeds each, and a third under one of them so far."""
    changes = {"method": "random", "repeats": 2, "budget": {"max_trials": 7}}
    made = Client(stage.settings).submit(SWEEP | changes)
    for number, loss in enumerate([0.1, 0.5, 0.2, 0.3, 0.05]):
        stage.complete(made.id, number, [0.9, loss])
    return made


def test_variants_are_listed(sweep: Sweep, shell: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERASWEEP_HOME", str(stage.home))
    documents = json.loads(shell("trials", "mlp", "--variants", "--sort", "value", "-o", "json"))
    assert [one["variant"] for one in documents] == [1, 0, 2]
    assert list(documents[0]) == [
        "variant", "state", "params", "value", "std", "trials", "seeds", "values", "best_trial", "failure",
    ]  # fmt: skip
    assert (documents[0]["value"], documents[0]["values"]) == (0.25, [0.2, 0.3])
    assert (documents[2]["value"], documents[2]["state"]) == (None, "queued")
    table = shell("trials", "mlp", "--variants", "--limit", "2")
    assert "val_loss, mean" in table
    assert "0.25000  0.071  0.20000  0.30000" in table
    assert "val_loss 0.25000 ± 0.071 over 2 seeds · trial 2 · epoch 2" in shell("status", "mlp")
    best = json.loads(shell("best", "mlp", "-o", "json"))
    assert (best["trial"], best["value"], best["variant"]["value"]) == (2, 0.2, 0.25)
    assert "0.25000 ± 0.071 over 2 seeds (trials 2 to 3)" in shell("best", "mlp")
    shell("plot", "mlp", "sweep.png", "--view", "history", "--view", "slice")
    assert (shell.code, Path("sweep.png").stat().st_size > 10_000) == (0, True)


def test_a_dry_run_tells_trials_and_variants(folder: Path, shell: Any) -> None:
    (folder / "sweep.yaml").write_text(json.dumps(SWEEP | {"repeats": 3, "budget": {"max_trials": 14}}))
    shell("submit", "sweep.yaml", "--dry-run")
    assert "up to 12 trials, 4 variants under 3 seeds each" in shell.err
    shell("submit", "sweep.yaml")
    assert "up to 12 trials, 4 variants under 3 seeds each" in shell.err

"""A sweep keeps its code as submitted; retry reports a changed job, and --code uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.trial import TrialKey, TrialState


def change(stage: Any) -> None:
    job: Path = stage.home.parent / "train.py"
    job.write_text(job.read_text() + "\n# mended\n")


def words(shell: Any, *command: str) -> str:
    return " ".join((shell(*command) + shell.err).split())


@pytest.fixture
def sweep(stage: Any, shell: Any) -> str:
    """A submitted sweep whose first trial diverged."""
    found: str = shell("submit", "sweep.yaml").split()[-1]
    stage.fail(found, 0)
    return found


def test_retry_says_that_the_job_has_changed(stage: Any, shell: Any, sweep: str) -> None:
    before = stage.records.sweep(sweep).bundle
    change(stage)
    said = words(shell, "retry", "mlp", "0")
    assert "has changed since it was submitted" in said
    assert "`kerasweep retry mlp --code`" in said
    assert stage.records.sweep(sweep).bundle == before


def test_retry_of_an_unchanged_job_mentions_no_change(shell: Any, sweep: str) -> None:
    assert "changed" not in words(shell, "retry", "mlp", "0")
    assert shell.code == 0


def test_code_is_taken_and_recorded(stage: Any, shell: Any, sweep: str) -> None:
    before = stage.records.sweep(sweep)
    change(stage)
    assert "as it is now" in words(shell, "retry", "mlp", "--code")
    after = stage.records.sweep(sweep)
    assert after.bundle.key != before.bundle.key
    assert stage.artifacts.get(after.bundle.key, after.bundle.sha256)
    assert {before.bundle.key, after.bundle.key} <= stage.records.referenced()
    story = [entry for entry in stage.records.journal(sweep) if entry.event == "code changed"]
    assert after.bundle.sha256[:12] in story[0].reason
    stage.claim(sweep, 0)
    claimed = [entry for entry in stage.records.journal(sweep) if entry.event == "claimed"]
    assert [after.bundle.sha256[:12] in entry.reason for entry in claimed] == [False, True]


def test_each_trial_names_the_code_that_it_ran(stage: Any, shell: Any, sweep: str) -> None:
    stage.complete(sweep, 1)
    before = stage.records.sweep(sweep)
    change(stage)
    shell("retry", "mlp", "--code")
    after = stage.records.sweep(sweep)
    assert after.code_of(stage.records.trial(TrialKey(sweep, 1)))[0].sha256 == before.bundle.sha256
    assert before.bundle.sha256 != after.bundle.sha256


def test_trials_restart_with_other_code(stage: Any, shell: Any, sweep: str) -> None:
    key, _ = stage.claim(sweep, 1)
    checkpoint = ArtifactRef("checkpoint", "sweeps/x/checkpoint-1.npz", "0" * 64, 1, 1)
    stage.records.record([Progress(key, checkpoints=(checkpoint,))], 60.0)
    change(stage)
    assert "while none of its trials is running" in words(shell, "retry", "mlp", "--code")
    assert shell.code == 2
    stage.records.release(key, TrialState.PAUSED, "by hand")
    shell("retry", "mlp", "--code")
    assert stage.records.artifacts(sweep, kind="checkpoint") == {}


def test_code_that_is_as_it_was_is_refused(shell: Any, sweep: str) -> None:
    assert "is as it was submitted" in words(shell, "retry", "mlp", "--code")
    assert shell.code == 2

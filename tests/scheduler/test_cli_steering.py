"""pause, resume, cancel, retry, extend: their effect on the records, and their output."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from kerasweep.jobs.trial import SweepState, TrialKey, TrialState


def state(stage: Any, sweep: str, trial: int) -> TrialState:
    found: TrialState = stage.records.trial(TrialKey(sweep, trial)).state
    return found


def test_pause_and_resume_a_sweep(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    assert "paused" in shell("pause", "mlp")
    assert stage.records.sweep(sweep).state is SweepState.PAUSED
    document = json.loads(shell("resume", "mlp", "-o", "json"))
    assert (document["sweep"], document["trial"], document["state"]) == (sweep, None, "running")
    assert stage.records.sweep(sweep).state is SweepState.RUNNING


def test_pause_resume_and_cancel_one_trial(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    shell("pause", "mlp", "3")
    assert state(stage, sweep, 3) is TrialState.PAUSED
    shell("resume", "mlp", "3")
    assert state(stage, sweep, 3) is TrialState.QUEUED
    assert json.loads(shell("cancel", "mlp", "3", "-o", "json"))["state"] == "cancelled"
    assert state(stage, sweep, 3) is TrialState.CANCELLED
    assert state(stage, sweep, 2) is TrialState.QUEUED


def test_cancel_keeps_what_is_done(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 0)
    assert shell("cancel", "mlp") == "sweep mlp is cancelled\n"
    assert shell.code == 0
    assert state(stage, sweep, 0) is TrialState.COMPLETED
    assert state(stage, sweep, 1) is TrialState.CANCELLED
    assert json.loads(shell("status", "mlp", "-o", "json"))["waiting"] is None


def test_cancel_says_what_is_still_to_happen(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    keys = [stage.claim(sweep, trial)[0] for trial in (0, 1)]
    assert shell("cancel", "mlp", "0") == "trial 0 will be cancelled at its next step\n"
    assert shell("cancel", "mlp") == "sweep mlp is cancelled; the 2 trials that run stop at the next step\n"
    stage.records.release(keys[0], TrialState.CANCELLED, "as asked")
    assert "1 trial still runs and stops at the next step" in shell("status", "mlp")
    stage.records.release(keys[1], TrialState.CANCELLED, "as asked")
    assert "still runs" not in shell("status", "mlp")


def test_retry_queues_failed_trials_again(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    stage.fail(sweep, 4)
    stage.end(sweep, SweepState.FAILED, "all failed")
    assert yaml.safe_load(shell("retry", "mlp", "4", "-o", "yaml"))["state"] == "queued"
    assert stage.records.sweep(sweep).state is SweepState.RUNNING


def test_extend_adds_trials(stage: Any, shell: Any) -> None:
    sweep = stage.sweep(budget={"max_trials": 4})
    shell("extend", "mlp", "--max-trials", "6")
    assert shell.code == 0
    assert sum(stage.records.counts(sweep).values()) == 6


@pytest.mark.parametrize(
    "words",
    [
        ("retry", "mlp"),
        ("resume", "mlp", "0"),
        ("extend", "mlp", "--max-trials", "2"),
        ("pause", "mlp", "77"),
        ("cancel", "nope"),
    ],
    ids=lambda words: words[0],
)
def test_what_cannot_be_done_is_wrong_input(stage: Any, shell: Any, words: tuple[str, ...]) -> None:
    stage.sweep()
    shell(*words)
    assert (shell.code, shell.out) == (2, "")
    assert shell.err.startswith("error: ")
    assert len(shell.err.splitlines()) <= 3


def test_add_queues_a_point_of_ones_own(stage: Any, shell: Any) -> None:
    sweep = stage.sweep(budget={"max_trials": 2})
    point = ("learning_rate=0.1", "units=100", "training.early_stopping.patience=5")
    assert shell("add", "mlp", *point) == "trial 2 of sweep mlp is queued\n"
    assert stage.records.trial(TrialKey(sweep, 2)).params["learning_rate"] == 0.1
    assert shell("add", "mlp", *point) == ""
    assert (shell.code, "trial 2 of sweep mlp has these values" in shell.err) == (2, True)
    shell("add", "mlp", "0.25")
    assert "NAME=VALUE, got '0.25'" in shell.err


def test_replay_tells_the_first_difference(stage: Any, shell: Any) -> None:
    stage.sweep()
    told = json.loads(shell("replay", "mlp", "-o", "json"))  # its seeds are not those of seed 7
    assert (shell.code, told["equal"]) == (1, False)
    assert told["difference"].startswith("trial 0 has seed 100 on record")

"""Sweeps of real training through a real Redis, real Celery workers and a real scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from kerasweep.jobs.trial import FailureClass, SweepState, TrialState

pytestmark = pytest.mark.tf

BROKEN_JOB = """
def load_data():
    raise ValueError("no such column: 'age'")


def build_model():
    return None
"""


@pytest.fixture
def served(shared_cluster: Any) -> Any:
    """A cluster with a scheduler and a worker, for sweeps that follow one another."""
    if not shared_cluster.processes:
        shared_cluster.scheduler()
        shared_cluster.worker()
    return shared_cluster


def test_a_grid_ends_with_every_trial_recorded_once(served: Any, until: Any) -> None:
    sweep = served.submit()
    until(served.ended(sweep), 90)
    trials = served.records.trials(sweep.id)
    assert served.records.sweep(sweep.id).state is SweepState.COMPLETED
    assert [trial.state for trial in trials] == [TrialState.COMPLETED] * 6
    assert [trial.attempt for trial in trials] == [1] * 6
    assert all(trial.digest and trial.value is not None and trial.epochs == 3 for trial in trials)
    for trial, epochs in served.records.epochs(sweep.id).items():
        assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
        best = min(epochs, key=lambda epoch: epoch.metrics["val_loss"])
        assert trials[trial].value == best.metrics["val_loss"]
        assert trials[trial].best_epoch == best.epoch
    winner = served.records.best(sweep)[0]
    model = served.records.artifacts(sweep.id, winner.number, "model")[winner.number][0]
    assert len(served.artifacts.get(model.key, model.sha256)) == model.bytes


def test_a_sweep_waits_for_a_worker_and_two_workers_share_it(cluster: Any, until: Any) -> None:
    sweep = cluster.submit(parameters={"learning_rate": {"values": [0.01 * n for n in range(1, 13)]}})
    assert cluster.records.counts(sweep.id) == {TrialState.QUEUED: 12}
    cluster.scheduler()
    cluster.worker("--slots", "1", "--name", "one@here")
    cluster.worker("--slots", "1", "--name", "two@here")
    until(cluster.ended(sweep), 120)
    workers = {trial.worker for trial in cluster.records.trials(sweep.id)}
    assert workers == {"one@here", "two@here"}


def test_tpe_runs_end_to_end(served: Any, until: Any) -> None:
    sweep = served.submit(
        method={"name": "tpe", "startup_trials": 3, "parallel": 2},
        parameters={"learning_rate": {"distribution": "log_uniform", "min": 0.001, "max": 0.5}},
        budget={"max_trials": 7},
        training={"epochs": 1, "batch_size": 16},
    )
    until(served.ended(sweep), 120)
    assert served.records.counts(sweep.id) == {TrialState.COMPLETED: 7}
    reasons = [entry.reason for entry in served.records.journal(sweep.id) if entry.event == "suggested"]
    assert len(reasons) == 7
    assert any("tpe" in reason.lower() for reason in reasons)


def test_a_job_that_raises_halts_the_sweep(served: Any, until: Any) -> None:
    sweep = served.submit(BROKEN_JOB, parameters={}, method="random", budget={"max_trials": 8})
    until(served.ended(sweep), 90)
    ended = served.records.sweep(sweep.id)
    assert ended.state is SweepState.FAILED
    assert "no such column: 'age'" in ended.message
    failures = [trial.failure for trial in served.records.trials(sweep.id) if trial.failure]
    assert {failure.cls for failure in failures} == {FailureClass.USER}

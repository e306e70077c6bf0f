"""A worker takes what it can train, scales up where that is faster, and leaves nothing behind. With stub
trainers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kerasweep.jobs.queue.broker import HintQueue
from kerasweep.jobs.trial import TrialKey, TrialState


def copies(count: int) -> dict[str, Any]:
    """Return the parameters of this many trials."""
    return {"copy": {"values": list(range(count))}}


def test_what_a_worker_cannot_train_at_once_waits_for_others(cluster: Any, until: Any) -> None:
    queue = HintQueue(cluster.settings.broker_url)
    cluster.scheduler()
    cluster.stub_worker("--trainers", "1", "--slots", "4", "--name", "one@here")
    sweep = cluster.submit_stub(epochs=10, epoch_s=1.0, engine="fit", parameters=copies(4))
    until(cluster.reached(sweep, 1), 60)
    trials = cluster.records.trials(sweep.id)
    queued = {TrialKey(sweep.id, trial.number) for trial in trials if trial.state is TrialState.QUEUED}
    assert len(queued) == 3
    assert queued <= queue.waiting("train.cpu")  # and a second hint for a trial that was claimed late
    cluster.stub_worker("--trainers", "1", "--slots", "4", "--name", "two@here")
    until(cluster.completed(sweep), 90)
    workers = [trial.worker for trial in cluster.records.trials(sweep.id)]
    assert set(workers) == {"one@here", "two@here"}
    until(lambda: queue.length("train.cpu") == 0, 30)
    queue.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core has room for one trainer")
def test_a_worker_whose_cores_are_idle_starts_another_trainer(cluster: Any, until: Any) -> None:
    cluster.scheduler()
    worker = cluster.stub_worker("--trainers", "auto", "--slots", "2")
    sweep = cluster.submit_stub(epochs=2, epoch_s=9.0, parameters=copies(4))
    until(lambda: len(cluster.trainers(worker)) == 2, 60)
    until(lambda: cluster.records.counts(sweep.id).get(TrialState.RUNNING) == 4, 30)
    until(cluster.completed(sweep), 120)
    until(lambda: "is kept instead of" in cluster.logs(), 30)
    until(lambda: cluster.records.alive()[0].facts["trainers"] == 2, 30)
    assert {trial.attempt for trial in cluster.records.trials(sweep.id)} == {1}


def test_what_its_trainers_leave_in_temporary_folders_goes_with_a_worker(cluster: Any, until: Any) -> None:
    worker = cluster.stub_worker("--slots", "1")
    until(cluster.records.alive, 60)
    folder = Path(cluster.trainers(worker)[0].environ()["TMPDIR"])
    assert folder.name.startswith("kerasweep-worker-")
    assert folder.is_dir()
    worker.terminate()
    assert worker.wait(30) == 0
    assert not folder.exists()

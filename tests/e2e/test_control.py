"""User requests to sweeps and trials take effect within an epoch or five seconds.

The commands, Celery and its remote control are real; the trainers are stubs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from typer.testing import CliRunner

from kerasweep.jobs.queue.broker import new_app
from kerasweep.jobs.settings import to_env
from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.cli.entry import app
from kerasweep.scheduler.deciding import control

EPOCH_S = 0.6
#: The promise is five seconds or an epoch; on a busy machine the processes themselves need some time too.
PROMISED_S = 5.0
COPIES = {"copy": {"values": [1, 2, 3, 4]}}


@pytest.fixture
def cluster(shared_cluster: Any) -> Any:
    """The cluster of all tests here, with a scheduler and a worker of two slots."""
    if not shared_cluster.processes:
        shared_cluster.scheduler()
        shared_cluster.stub_worker("--slots=2")
    return shared_cluster


@pytest.fixture
def kerasweep(cluster: Any) -> Callable[..., Any]:
    """Return a function that runs a command, and returns the JSON that it prints.

    It runs in this process: on a busy machine Python may start more slowly than the trials train.
    """

    def run(*words: object, code: int = 0) -> Any:
        done = CliRunner().invoke(app, [*map(str, words), "-o", "json"], env=to_env(cluster.settings))
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    return run


@pytest.fixture
def running(cluster: Any, until: Any) -> Any:
    """A sweep of four trials, two of them training."""
    sweep = cluster.submit_stub(epochs=12, epoch_s=EPOCH_S, parameters=COPIES)
    until(lambda: sum(trial.epochs > 0 for trial in cluster.records.trials(sweep.id)) == 2, 30)
    return sweep


def seconds(condition: Callable[[], object], until: Any) -> float:
    """Wait for a condition; return how long it took."""
    began = time.monotonic()
    until(condition, 30)
    return time.monotonic() - began


def running_trials(cluster: Any, sweep: Any) -> list[int]:
    found = cluster.records.trials(sweep.id, [TrialState.RUNNING])
    return [trial.number for trial in found]


def expect_untouched(cluster: Any, sweep: Any, digest_of: Any, epochs: int = 12) -> None:
    """Check that every completed trial has the digest of an undisturbed one, and no failures."""
    for trial in cluster.records.trials(sweep.id, [TrialState.COMPLETED]):
        assert trial.digest == digest_of(trial.seed, epochs)
        assert trial.failures == 0
        epochs_on_record = [epoch.epoch for epoch in cluster.records.epochs(sweep.id)[trial.number]]
        assert epochs_on_record == [*range(1, epochs + 1)]


def test_a_sweep_pauses_and_resumes_where_it_stopped(
    cluster: Any, running: Any, kerasweep: Any, until: Any, digest_of: Any
) -> None:
    assert kerasweep("pause", running.name)["state"] == "paused"
    assert seconds(lambda: not running_trials(cluster, running), until) < PROMISED_S
    paused = cluster.records.trials(running.id, [TrialState.PAUSED])
    assert len(paused) == 2
    assert [trial.attempt for trial in cluster.records.trials(running.id, [TrialState.QUEUED])] == [0, 0]
    reached = {trial.number: trial.epochs for trial in paused}
    assert kerasweep("resume", running.name)["state"] == "running"
    assert seconds(lambda: running_trials(cluster, running), until) < PROMISED_S
    until(cluster.ended(running), 60)
    assert cluster.records.counts(running.id) == {TrialState.COMPLETED: 4}
    expect_untouched(cluster, running, digest_of)
    for trial, epochs in reached.items():
        writers = [epoch.attempt for epoch in cluster.records.epochs(running.id)[trial]]
        assert writers[:epochs] == [1] * epochs


def test_a_trial_pauses_and_resumes_while_the_others_train(
    cluster: Any, running: Any, kerasweep: Any, until: Any, digest_of: Any
) -> None:
    number = running_trials(cluster, running)[0]
    kerasweep("pause", running.id, number)
    assert seconds(cluster.in_state(running, TrialState.PAUSED, number), until) < PROMISED_S
    until(lambda: cluster.records.counts(running.id).get(TrialState.COMPLETED, 0) == 3, 60)
    assert cluster.records.sweep(running.id).state is SweepState.RUNNING
    kerasweep("resume", running.id, number)
    until(cluster.ended(running), 60)
    assert cluster.records.counts(running.id) == {TrialState.COMPLETED: 4}
    expect_untouched(cluster, running, digest_of)


def test_a_pause_may_be_withdrawn_before_it_takes_effect(cluster: Any, running: Any, until: Any) -> None:
    first, second = running_trials(cluster, running)
    control.pause(cluster.records, running.id, first)
    control.resume(cluster.records, running.id, first)
    control.pause(cluster.records, running.id)
    control.resume(cluster.records, running.id)
    until(cluster.ended(running), 60)
    for number in (first, second):
        assert cluster.trial(running, number).state is TrialState.COMPLETED
    assert "asked to go on" in cluster.events(running, first)


def test_a_cancelled_trial_ends_and_the_others_continue(
    cluster: Any, running: Any, kerasweep: Any, until: Any, digest_of: Any
) -> None:
    number = running_trials(cluster, running)[0]
    assert kerasweep("cancel", running.id, number)["trial"] == number
    assert seconds(cluster.in_state(running, TrialState.CANCELLED, number), until) < PROMISED_S
    until(cluster.ended(running), 60)
    assert cluster.records.counts(running.id) == {TrialState.COMPLETED: 3, TrialState.CANCELLED: 1}
    expect_untouched(cluster, running, digest_of)


def test_a_cancelled_sweep_ends_and_may_be_retried(
    cluster: Any, running: Any, kerasweep: Any, until: Any, digest_of: Any
) -> None:
    assert kerasweep("cancel", running.name)["state"] == "cancelled"
    assert seconds(lambda: not running_trials(cluster, running), until) < PROMISED_S
    assert cluster.records.counts(running.id) == {TrialState.CANCELLED: 4}
    assert "only a running or paused sweep" in kerasweep("cancel", running.name, code=2)
    assert kerasweep("retry", running.name)["state"] == "running"
    until(cluster.ended(running), 60)
    assert cluster.records.counts(running.id) == {TrialState.COMPLETED: 4}
    expect_untouched(cluster, running, digest_of)


def test_a_failed_trial_may_be_retried_alone(cluster: Any, kerasweep: Any, until: Any) -> None:
    sweep = cluster.submit_stub("train", "user")
    until(cluster.ended(sweep), 30)
    assert cluster.records.sweep(sweep.id).state is SweepState.COMPLETED
    kerasweep("retry", sweep.name, 1)
    until(lambda: cluster.trial(sweep, 1).attempt == 2, 20)
    until(cluster.ended(sweep), 30)
    assert [cluster.trial(sweep, number).attempt for number in (0, 1)] == [1, 2]
    assert "got trial 0 (completed)" in kerasweep("retry", sweep.name, 0, code=2)


def test_a_trial_revoked_in_flower_is_cancelled(cluster: Any, running: Any, until: Any) -> None:
    """Flower revokes with Celery's remote control; terminate=True is its other button."""
    first, second = running_trials(cluster, running)
    app = Celery(broker=cluster.settings.broker_url, set_as_current=False)  # Flower's, so no app of ours
    try:
        [worker] = [one.id for one in cluster.records.alive()]
        # The scheduler answers too, and may be the first to.
        found = app.control.inspect([worker], timeout=15.0).active()
        tasks = {int(task["id"].split(".")[1]): task["id"] for task in found[worker]}
        app.control.revoke(tasks[first])
        app.control.revoke(tasks[second], terminate=True)
        for number in (first, second):
            assert seconds(cluster.in_state(running, TrialState.CANCELLED, number), until) < PROMISED_S
        until(cluster.ended(running), 60)
    finally:
        app.close()
    assert cluster.records.counts(running.id) == {TrialState.COMPLETED: 2, TrialState.CANCELLED: 2}
    reasons = [entry.reason for entry in cluster.records.journal(running.id) if entry.trial == first]
    assert any("revoked in Flower" in reason for reason in reasons)


def test_a_queued_trial_revoked_in_flower_is_cancelled(cluster: Any, running: Any, until: Any) -> None:
    queued = cluster.records.trials(running.id, [TrialState.QUEUED])[0].number
    prefix = f"{running.id}.{queued}."
    app = new_app(cluster.settings.broker_url)
    try:
        [message] = [one for one in waiting(cluster) if one["headers"]["id"].startswith(prefix)]
        app.control.revoke(message["headers"]["id"])
        until(cluster.in_state(running, TrialState.CANCELLED, queued), 40)
    finally:
        app.close()


def waiting(cluster: Any) -> list[Any]:
    """Return the messages in the queue."""
    path = cluster.settings.broker_url.removeprefix("redis+socket://")
    with redis.Redis(unix_socket_path=path) as client:
        return [json.loads(entry) for entry in client.lrange("train.cpu", 0, -1)]


def test_a_spent_budget_lets_running_trials_end_with_what_they_have(
    cluster: Any, until: Any, digest_of: Any
) -> None:
    until(cluster.records.alive, 60)  # the sweep's time runs from its submission
    sweep = cluster.submit_stub(
        epochs=100, epoch_s=0.3, parameters=COPIES, budget={"max_hours": 8.0 / 3600.0}
    )
    until(cluster.ended(sweep), 60)
    assert cluster.records.sweep(sweep.id).state is SweepState.COMPLETED
    assert cluster.records.counts(sweep.id) == {TrialState.STOPPED: 2, TrialState.CANCELLED: 2}
    for trial in cluster.records.trials(sweep.id, [TrialState.STOPPED]):
        assert trial.value is not None
        assert trial.digest == digest_of(trial.seed, trial.epochs)


def test_a_random_sweep_extended_from_20_to_40_equals_one_of_40(
    cluster: Any, kerasweep: Any, until: Any
) -> None:
    space = {"epoch_s": {"distribution": "uniform", "min": 0.0, "max": 0.02}}
    options = {"parameters": space, "method": "random", "epochs": 2}
    grown = cluster.submit_stub(name="grown", budget={"max_trials": 20}, **options)
    until(cluster.ended(grown), 60)
    before = cluster.records.trials(grown.id)
    kerasweep("extend", "grown", "--max-trials", 40)
    until(cluster.ended(grown), 60)
    assert cluster.records.trials(grown.id)[:20] == before
    whole = cluster.submit_stub(name="whole", budget={"max_trials": 40}, **options)
    until(cluster.ended(whole), 60)

    def table(sweep: Any) -> list[Any]:
        trials = cluster.records.trials(sweep.id)
        return [(one.number, one.params, one.seed, one.value, one.best_epoch, one.digest) for one in trials]

    assert len(table(whole)) == 40
    assert table(grown) == table(whole)
    assert "must be above 40" in kerasweep("extend", "grown", "--max-trials", 40, code=2)

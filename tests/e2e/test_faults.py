"""Trials, trainers and workers that fail for real are handled as documented.

Redis, Celery, the scheduler, the store and every signal are real; to keep each test short, the trainers are
stubs. `test_faults_keras.py` has the tests with Keras.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest
import redis

from kerasweep.jobs.trial import FailureClass, TrialKey, TrialState


def connect(cluster: Any) -> redis.Redis:
    return redis.Redis(unix_socket_path=cluster.settings.broker_url.removeprefix("redis+socket://"))


def counted(cluster: Any, sweep: Any, trial: int = 0) -> int:
    return int(cluster.trial(sweep, trial).failures)


class TestWhatATrialDoes:
    """The rows of the table of failures whose cause is the trial itself."""

    @pytest.fixture
    def busy(self, shared_cluster: Any) -> Any:
        """A cluster whose worker outlives what the trials do."""
        if not shared_cluster.processes:
            shared_cluster.scheduler()
            shared_cluster.stub_worker("--slots=2")
        return shared_cluster

    def test_user_errors_and_divergence_fail_at_once(self, busy: Any, until: Any) -> None:
        sweep = busy.submit_stub("train", "user", "diverged")
        until(busy.ended(sweep), 40)
        good, user, diverged = busy.records.trials(sweep.id)
        assert good.state is TrialState.COMPLETED
        for trial, cls in ((user, FailureClass.USER), (diverged, FailureClass.DIVERGED)):
            assert trial.state is TrialState.FAILED
            assert trial.attempt == 1
            assert trial.failure.cls is cls
            assert [epoch.epoch for epoch in busy.records.epochs(sweep.id)[trial.number]] == [1]
            assert "line 1" in [text for *_, text in busy.records.logs(sweep.id, trial.number)]

    def test_memory_alone_fails_without_a_retry(self, busy: Any, until: Any) -> None:
        sweep = busy.submit_stub("memory", "train")
        until(busy.ended(sweep), 40)
        failed = busy.trial(sweep, 0)
        assert (failed.state, failed.failure.cls) == (TrialState.FAILED, FailureClass.MEMORY)

    def test_a_trial_that_kills_its_trainer_is_found_out_and_the_others_are_not_charged(
        self, busy: Any, until: Any
    ) -> None:
        sweep = busy.submit_stub("train", "crash", epoch_s=0.2, retries={"max_failures": 2})
        until(busy.ended(sweep), 60)
        good, bad = busy.records.trials(sweep.id)
        assert (good.state, good.failures) == (TrialState.COMPLETED, 0)
        assert (bad.state, bad.failure.cls, bad.failures) == (TrialState.FAILED, FailureClass.CRASH, 3)
        assert "signal 9" in bad.failure.message

    def test_a_hang_alone_is_ended_counted_and_tried_again(
        self, cluster: Any, until: Any, digest_of: Any
    ) -> None:
        cluster.scheduler()
        cluster.stub_worker("--slots=1", KERASWEEP_HANG_S="2")
        sweep = cluster.submit_stub("hang", epoch_s=0.1)
        until(cluster.ended(sweep), 60)
        trial = cluster.trial(sweep)
        assert (trial.state, trial.failures, trial.attempt) == (TrialState.COMPLETED, 1, 2)
        assert cluster.outcomes(sweep) == ["failed: hang", "completed"]
        assert trial.digest == digest_of(trial.seed, 3)

    def test_a_hang_in_a_pack_is_tried_again_in_a_smaller_one_and_charged_to_nobody(
        self, cluster: Any, until: Any, digest_of: Any
    ) -> None:
        cluster.scheduler()
        cluster.stub_worker("--slots=2", KERASWEEP_HANG_S="2")
        sweep = cluster.submit_stub("train", "hang", epoch_s=0.3, epochs=12)
        until(cluster.ended(sweep), 60)
        good, hung = cluster.records.trials(sweep.id)
        for trial in (good, hung):
            assert (trial.state, trial.failures) == (TrialState.COMPLETED, 0)
            assert trial.digest == digest_of(trial.seed, 12)
        assert cluster.outcomes(sweep, 1) == ["failed: hang", "completed"]
        assert cluster.outcomes(sweep, 0) == ["released: queued", "completed"]

    def test_what_a_trainer_started_goes_with_it_and_its_pipe_is_not_waited_for(
        self, busy: Any, until: Any, alive: Any
    ) -> None:
        sweep = busy.submit_stub("fork")
        until(busy.ended(sweep), 40)
        assert busy.trial(sweep).state is TrialState.COMPLETED
        [pid] = [int(text.split()[1]) for *_, text in busy.records.logs(sweep.id) if "grandchild" in text]
        until(lambda: not alive(pid), 10)

    def test_a_trainer_that_has_grown_is_started_anew_between_trials(self, cluster: Any, until: Any) -> None:
        cluster.scheduler()
        worker = cluster.stub_worker("--slots=1")
        found: list[Any] = []

        def there() -> bool:
            found[:] = cluster.trainers(worker)
            return len(found) == 1

        until(there, 20)
        [grown] = found
        sweep = cluster.submit_stub("train", "grow", "user")
        until(cluster.ended(sweep), 30)
        until(lambda: [one.pid for one in cluster.trainers(worker)] not in ([], [grown.pid]), 10)
        assert [trial.attempt for trial in cluster.records.trials(sweep.id)] == [1, 1, 1]
        assert [trial.failures for trial in cluster.records.trials(sweep.id)] == [0, 0, 0]


class TestProcesses:
    """Workers and trainers that are killed, frozen, or told to stop."""

    def test_a_killed_worker_takes_its_trainers_along_and_its_trials_go_on_elsewhere(
        self, cluster: Any, until: Any, digest_of: Any, alive: Any
    ) -> None:
        cluster.scheduler()
        first = cluster.stub_worker("--name=first@here")
        sweep = cluster.submit_stub(epochs=6, epoch_s=0.3)
        until(cluster.reached(sweep, 2), 20)
        trainers = cluster.trainers(first)
        assert trainers
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        until(lambda: not any(alive(trainer.pid) for trainer in trainers), 5, "the trainers' end")
        cluster.stub_worker("--name=second@here")
        until(cluster.ended(sweep), 40)
        trial = cluster.trial(sweep)
        assert (trial.state, trial.attempt, trial.failures) == (TrialState.COMPLETED, 2, 0)
        assert cluster.outcomes(sweep) == ["failed: lost", "completed"]
        assert trial.digest == digest_of(trial.seed, 6)
        writers = [epoch.attempt for epoch in cluster.records.epochs(sweep.id)[0]]
        assert writers == sorted(writers)
        assert set(writers) == {1, 2}

    def test_a_trainer_killed_three_times_counts_three_times(
        self, cluster: Any, until: Any, digest_of: Any
    ) -> None:
        cluster.scheduler()
        worker = cluster.stub_worker()
        sweep = cluster.submit_stub(epochs=8, epoch_s=0.3, retries={"max_failures": 3})
        for kill in range(1, 4):
            until(cluster.reached(sweep, 2 * kill), 20)
            [trainer] = cluster.trainers(worker)
            trainer.kill()
            until(lambda kill=kill: counted(cluster, sweep) == kill, 20)
        until(cluster.ended(sweep), 30)
        trial = cluster.trial(sweep)
        assert (trial.state, trial.attempt) == (TrialState.COMPLETED, 4)
        assert trial.digest == digest_of(trial.seed, 8)

    def test_the_writes_of_a_worker_that_was_frozen_beyond_its_lease_are_refused(
        self, cluster: Any, until: Any, digest_of: Any
    ) -> None:
        cluster.scheduler()
        first = cluster.stub_worker("--name=first@here")
        sweep = cluster.submit_stub(epochs=10, epoch_s=0.4)
        until(cluster.reached(sweep, 2), 20)
        frozen = [psutil.Process(first.pid), *cluster.trainers(first)]
        for process in frozen:
            process.suspend()
        cluster.stub_worker("--name=second@here")
        until(lambda: cluster.trial(sweep).attempt == 2, 20)
        for process in frozen:
            process.resume()
        until(cluster.ended(sweep), 40)
        trial = cluster.trial(sweep)
        assert (trial.state, trial.attempt, trial.failures) == (TrialState.COMPLETED, 2, 0)
        assert trial.worker == "second@here"
        assert trial.digest == digest_of(trial.seed, 10)
        writers = [epoch.attempt for epoch in cluster.records.epochs(sweep.id)[0]]
        assert writers == sorted(writers)
        log = (cluster.folder / "stub-1.log").read_text
        until(lambda: "no longer holds its trial" in log() or "StaleAttempt" in log(), 10, "the refusal")

    @pytest.mark.parametrize("within", ["a step", "an epoch's end"])
    def test_sigterm_releases_with_a_checkpoint_and_counts_nothing(
        self, cluster: Any, until: Any, digest_of: Any, within: str
    ) -> None:
        cluster.scheduler()
        worker = cluster.stub_worker("--slots=3")
        copies = {"copy": {"values": [1, 2, 3]}}
        sweep = cluster.submit_stub(epochs=6, epoch_s=1.0 if within == "a step" else 0.15, parameters=copies)
        until(cluster.reached(sweep, 1), 20)
        asked_at = time.monotonic()
        worker.terminate()
        worker.wait(cluster.settings.grace_s)
        assert time.monotonic() - asked_at < cluster.settings.grace_s / 2
        counts = cluster.records.counts(sweep.id)
        assert counts.get(TrialState.RUNNING, 0) == 0
        released = [trial for trial in cluster.records.trials(sweep.id) if trial.state is TrialState.QUEUED]
        for trial in released:
            assert trial.failures == 0
        cluster.stub_worker("--slots=3")
        until(cluster.ended(sweep), 40)
        for trial in cluster.records.trials(sweep.id):
            assert (trial.state, trial.failures) == (TrialState.COMPLETED, 0)
            assert trial.digest == digest_of(trial.seed, 6)
            assert "failed: lost" not in cluster.outcomes(sweep, trial.number)

    def test_a_second_sigterm_and_sigkill_lose_no_more_than_the_last_epoch(
        self, cluster: Any, until: Any, digest_of: Any
    ) -> None:
        cluster.scheduler()
        worker = cluster.stub_worker()
        sweep = cluster.submit_stub(epochs=5, epoch_s=0.5)
        until(cluster.reached(sweep, 2), 20)
        worker.terminate()
        worker.terminate()
        worker.kill()
        worker.wait(10)
        cluster.stub_worker()
        until(cluster.ended(sweep), 40)
        trial = cluster.trial(sweep)
        assert (trial.state, trial.failures, trial.digest) == (
            TrialState.COMPLETED,
            0,
            digest_of(trial.seed, 5),
        )

    def test_a_worker_that_ends_while_redis_is_away_keeps_to_its_grace(
        self, cluster: Any, redis_server: Any, until: Any
    ) -> None:
        cluster.scheduler()
        worker = cluster.stub_worker()
        sweep = cluster.submit_stub(epochs=50, epoch_s=0.3)
        until(cluster.reached(sweep, 1), 20)
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            worker.terminate()
            until(cluster.in_state(sweep, TrialState.QUEUED), 15)
            worker.wait(cluster.settings.grace_s)
        finally:
            os.kill(redis_server.pid, signal.SIGCONT)
        assert cluster.outcomes(sweep) == ["released: queued"]

    def test_a_hint_taken_by_a_worker_that_died_is_sent_again(self, cluster: Any, until: Any) -> None:
        sweep = cluster.submit_stub()
        with connect(cluster) as client:
            assert client.rpop("train.cpu")  # taken, and lost with its worker
        cluster.scheduler()
        cluster.stub_worker()
        until(cluster.ended(sweep), 30)
        assert cluster.trial(sweep).attempt == 1

    def test_a_claim_that_was_never_renewed_is_taken_back(self, cluster: Any, until: Any) -> None:
        sweep = cluster.submit_stub()
        assert cluster.records.claim(TrialKey(sweep.id, 0), "gone@here", cluster.settings.lease_s)
        cluster.scheduler()
        cluster.stub_worker()
        until(cluster.ended(sweep), 30)
        assert cluster.outcomes(sweep) == ["failed: lost", "completed"]
        assert counted(cluster, sweep) == 0

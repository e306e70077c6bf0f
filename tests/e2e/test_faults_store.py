"""The database and the artifacts go away, fill up and come back. Trainers are stubs."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest
from refusing_s3 import RefusingS3
from servers import S3Server

from kerasweep.jobs.errors import OutOfReach
from kerasweep.jobs.store.artifacts import Artifacts
from kerasweep.jobs.trial import FailureClass, TrialState
from kerasweep.scheduler.client.client import Client


def test_sqlite_locked_beyond_the_lease_costs_no_failure(cluster: Any, until: Any, digest_of: Any) -> None:
    cluster.scheduler()
    cluster.stub_worker()
    sweep = cluster.submit_stub(epochs=12, epoch_s=0.4)
    until(cluster.reached(sweep, 2), 20)
    holder = sqlite3.connect(cluster.settings.store.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("begin immediate")
    time.sleep(cluster.settings.lease_s + 1.5)  # the outage itself
    holder.close()
    until(cluster.ended(sweep), 60)
    expect_whole(cluster, sweep, 12, digest_of)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_postgresql_away_beyond_the_lease_costs_no_failure(
    postgres_cluster: Any, until: Any, digest_of: Any, how: signal.Signals
) -> None:
    cluster, server = postgres_cluster
    cluster.scheduler()
    cluster.stub_worker()
    sweep = cluster.submit_stub(epochs=12, epoch_s=0.4)
    until(cluster.reached(sweep, 2), 30)
    server.stop(how)
    time.sleep(cluster.settings.lease_s + 1.5)  # the outage itself
    server.start()
    until(cluster.ended(sweep), 60)
    expect_whole(cluster, sweep, 12, digest_of)


def expect_whole(cluster: Any, sweep: Any, epochs: int, digest_of: Any) -> None:
    trial = cluster.trial(sweep)
    assert (trial.state, trial.failures) == (TrialState.COMPLETED, 0)
    assert trial.digest == digest_of(trial.seed, epochs)
    stopped = [outcome for outcome in cluster.outcomes(sweep) if outcome != "completed"]
    assert stopped
    assert set(stopped) <= {"released: queued", "failed: lost"}


def test_a_full_disk_waits_for_room_and_leaves_the_store_whole(
    cluster: Any, until: Any, digest_of: Any
) -> None:
    cluster.scheduler()
    worker = cluster.stub_worker()
    sweep = cluster.submit_stub(epochs=4, epoch_s=0.3)
    until(cluster.reached(sweep, 2), 20)
    [trainer] = cluster.trainers(worker)
    trainer.rlimit(psutil.RLIMIT_FSIZE, (16, psutil.RLIM_INFINITY))
    until(lambda: "failed: store" in cluster.outcomes(sweep), 20)
    whole = {ref.key for ref in cluster.records.artifacts(sweep.id)[0]}
    assert set(cluster.artifacts.keys("sweeps")) == whole
    reasons = [entry.reason for entry in cluster.records.journal(sweep.id) if entry.event == "failed"]
    assert "the file is too large" in reasons[0]
    trainer.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    until(cluster.ended(sweep), 40)
    trial = cluster.trial(sweep)
    assert (trial.state, trial.failures, trial.digest) == (
        TrialState.COMPLETED,
        0,
        digest_of(trial.seed, 4),
    )


@pytest.fixture
def refusing(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingS3]:
    """The cluster's artifacts in an S3 that refuses on request."""
    with S3Server() as server, RefusingS3(server.url) as front:
        for name, value in {**server.environment, "AWS_ENDPOINT_URL": front.url}.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{server.bucket}/refusing"
        cluster.settings = replace(cluster.settings, artifacts_url=url)
        cluster.artifacts = Artifacts(url, skip_instance_cache=True)
        yield front


def test_a_refusal_of_the_artifacts_is_told_and_waited_out(
    cluster: Any, refusing: RefusingS3, until: Any, digest_of: Any
) -> None:
    cluster.scheduler()
    cluster.stub_worker()
    refusing.refused.add(("PUT", "/model-"))
    sweep = cluster.submit_stub(epochs=2)
    until(lambda: cluster.outcomes(sweep).count("failed: store") >= 2, 40)
    with Client(cluster.settings) as client:
        status = client.sweep(sweep.id).status()
    assert "Access Denied" in (status.waiting or "")
    assert any("store: trial 0" in one and "of 50 allowed" in one for one in status.troubles)
    refusing.refused.clear()
    until(cluster.ended(sweep), 40)
    trial = cluster.trial(sweep)
    assert (trial.state, trial.failures) == (TrialState.COMPLETED, 0)
    assert trial.digest == digest_of(trial.seed, 2)


def test_leases_end_while_the_artifacts_are_frozen(cluster: Any, refusing: RefusingS3, until: Any) -> None:
    """Pruning then waits for minutes; nothing else may wait with it."""
    cluster.scheduler()
    worker = cluster.stub_worker()
    sweep = cluster.submit_stub(epochs=200, epoch_s=0.2)
    until(cluster.reached(sweep, 3), 40)
    refusing.freeze()
    try:
        until(
            lambda: [one for one in refusing.held if not _is_write_of_trial(one)],
            20,
            "the scheduler's request",
        )
        psutil.Process(worker.pid).kill()
        until(cluster.in_state(sweep, TrialState.QUEUED), 20, "the end of the lease")
        until(lambda: "lost its worker" in cluster.logs(), 10, "its line in the log")  # logged once committed
    finally:
        refusing.thaw()


def _is_write_of_trial(request: str) -> bool:
    """Tell a trial's checkpoint or model from what the scheduler asks for, its marker among it.

    The bucket is called "sweeps" too, so that name tells nothing.
    """
    return request.startswith("PUT ") and "/trials/" in request


def test_a_refusal_that_stays_ends_the_trial(cluster: Any, refusing: RefusingS3, until: Any) -> None:
    cluster.scheduler()
    cluster.stub_worker()
    refusing.refused.add(("PUT", "/model-"))
    sweep = cluster.submit_stub(epochs=1, retries={"max_store": 2})
    until(cluster.ended(sweep), 60)
    trial = cluster.trial(sweep)
    assert cluster.outcomes(sweep) == ["failed: store"] * 3
    assert trial.failure.cls is FailureClass.STORE
    assert "Access Denied" in trial.failure.message


def test_a_submission_that_the_artifacts_refuse_is_out_of_reach(cluster: Any, refusing: RefusingS3) -> None:
    refusing.refused.add(("PUT", "/bundles/"))
    with pytest.raises(OutOfReach, match="Access Denied"):
        cluster.submit_stub()
    assert cluster.records.sweeps() == []


def test_only_what_is_needed_is_kept(cluster: Any, until: Any) -> None:
    cluster.scheduler()
    cluster.stub_worker("--slots=2")
    keep = {"every_s": 0, "keep_top": 2}
    sweep = cluster.submit_stub(
        epochs=6, epoch_s=0.2, parameters={"copy": {"values": [*range(6)]}}, checkpoints=keep
    )
    until(lambda: cluster.records.counts(sweep.id).get(TrialState.COMPLETED, 0) >= 2, 30)
    orphan = f"sweeps/{sweep.id}/trials/0/1/checkpoint-2-0badcafe.json"
    cluster.artifacts.put(orphan, b"written before a crash, and recorded by nobody")
    until(lambda: orphan not in cluster.artifacts.keys("sweeps"), 15)
    until(cluster.ended(sweep), 60)
    best = [trial.number for trial in cluster.records.best(cluster.records.sweep(sweep.id), 2)]
    until(lambda: len(cluster.artifacts.keys("sweeps")) == 2, 15)
    assert sorted(cluster.records.artifacts(sweep.id)) == sorted(best)
    for refs in cluster.records.artifacts(sweep.id).values():
        for ref in refs:
            assert cluster.artifacts.get(ref.key, ref.sha256)

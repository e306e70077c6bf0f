"""A worker on which every trial fails costs a sweep nothing while another one is running."""

from __future__ import annotations

from typing import Any

from kerasweep.jobs.trial import SweepState, TrialState

TRIALS = 30


def test_no_trial_is_lost_to_a_sick_worker(cluster: Any, until: Any) -> None:
    cluster.stub_worker("--name=sick@here", "--slots=2", STUB_SICK="1")
    cluster.stub_worker("--name=sound@here", "--slots=2")
    until(lambda: len(cluster.records.alive()) == 2, 40)
    cluster.scheduler()
    sweep = cluster.submit_stub(epochs=1, epoch_s=0.2, parameters={"copy": {"values": list(range(TRIALS))}})
    until(cluster.ended(sweep), 90)
    assert cluster.records.sweep(sweep.id).state is SweepState.COMPLETED
    assert cluster.records.counts(sweep.id) == {TrialState.COMPLETED: TRIALS}
    assert [one.worker for one in cluster.records.quarantines()] == ["sick@here"]
    failed = [one for one in cluster.records.attempts(sweep.id) if one.outcome == "failed: user"]
    assert {one.worker for one in failed} == {"sick@here"}
    assert len(failed) >= 3
    story = [entry.event for entry in cluster.records.journal(sweep.id)]
    assert story.count("worker set aside") == 1

"""What nothing needs goes, and nothing else: not what a resume or an attempt under way may need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, add_trials, claim, epoch, result

from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.models import Progress
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import AttemptKey, SweepState, TrialState
from kerasweep.scheduler.deciding.prune import Pruner

SWEEP = "abcd1234"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def records(tmp_path: Path, clock: FakeClock) -> Iterator[Records]:
    made = Records(f"sqlite:///{tmp_path / 'store.db'}", clock=clock)
    made.create_sweep(a_sweep())
    add_trials(made, SWEEP, range(6))
    yield made
    made.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path / "artifacts"))


@pytest.fixture
def pruner(records: Records, artifacts: Artifacts) -> Pruner:
    return Pruner(records, artifacts, grace_s=3600.0)


def put(artifacts: Artifacts, key: AttemptKey, kind: str, number: int) -> ArtifactRef:
    name = f"sweeps/{key.sweep}/trials/{key.trial}/{key.attempt}/{kind}-{number}-00000000"
    return ArtifactRef(kind, name, *artifacts.put(name, name.encode()), number)


def train(records: Records, artifacts: Artifacts, trial: int, epochs: int) -> AttemptKey:
    key = claim(records, trial=trial).key
    for number in range(1, epochs + 1):
        ref = put(artifacts, key, "checkpoint", number)
        records.record([Progress(key, (epoch(number),), (ref,))], LEASE_S)
    return key


def finish(records: Records, artifacts: Artifacts, trial: int, value: float) -> None:
    key = train(records, artifacts, trial, 3)
    records.finish(key, result(value, model=put(artifacts, key, "model", 3)))


def test_an_unfinished_trial_keeps_its_two_newest_checkpoints(
    records: Records, artifacts: Artifacts, pruner: Pruner
) -> None:
    train(records, artifacts, 0, 5)
    paused = train(records, artifacts, 1, 4)
    records.release(paused, TrialState.PAUSED, "by hand")
    failed = train(records, artifacts, 2, 1)
    assert pruner.round() == 5
    kept = {trial: [ref.epoch for ref in refs] for trial, refs in records.artifacts(SWEEP).items()}
    assert kept == {0: [5, 4], 1: [4, 3], 2: [1]}
    assert sorted(artifacts.keys("sweeps")) == sorted(
        ref.key for refs in records.artifacts(SWEEP).values() for ref in refs
    )
    assert failed.trial == 2


def test_a_finished_trial_keeps_no_checkpoint_and_only_the_best_keep_their_models(
    records: Records, artifacts: Artifacts, pruner: Pruner
) -> None:
    for trial, value in enumerate([0.5, 0.1, 0.4, 0.2, 0.3]):
        finish(records, artifacts, trial, value)
    pruner.round()
    found = records.artifacts(SWEEP)
    assert sorted(found) == [1, 3, 4]
    assert {ref.kind for refs in found.values() for ref in refs} == {"model"}
    assert len(artifacts.keys("sweeps")) == 3


def test_what_no_record_names_goes_once_its_attempt_is_over(
    records: Records, artifacts: Artifacts, pruner: Pruner, clock: FakeClock
) -> None:
    running = train(records, artifacts, 0, 1)
    unrecorded = put(artifacts, running, "checkpoint", 2)
    assert pruner.round() == 0, "its attempt may still put it on record"
    clock.pass_s(LEASE_S + 1)
    records.expire_leases()
    assert pruner.round() == 1
    assert unrecorded.key not in artifacts.keys("sweeps")
    second = claim(records, trial=0).key
    late = put(artifacts, running, "checkpoint", 3)
    fresh = put(artifacts, second, "checkpoint", 2)
    assert pruner.round() == 1
    assert late.key not in artifacts.keys("sweeps")
    assert fresh.key in artifacts.keys("sweeps")


def test_nothing_of_another_store_is_touched(artifacts: Artifacts, pruner: Pruner) -> None:
    """Two stores may share a folder: what one does not know may be the other's."""
    keys = ["sweeps/other999/trials/0/1/checkpoint-1-00000000", "bundles/1234.zip"]
    for key in keys:
        artifacts.put(key, b"of another store")
    assert pruner.round() == 0
    assert sorted(artifacts.keys()) == sorted(keys)


def test_a_sweep_that_ended_is_tidied_once_and_again_when_it_goes_on(
    records: Records, artifacts: Artifacts, pruner: Pruner
) -> None:
    finish(records, artifacts, 0, 0.5)

    def end(state: SweepState) -> None:
        with records.deciding(SWEEP) as decision:
            decision.set_state(state, "for the test")

    end(SweepState.COMPLETED)
    assert pruner.round() == 3
    stray = put(artifacts, AttemptKey(SWEEP, 0, 1), "checkpoint", 9)
    assert pruner.round() == 0, "nobody writes to a sweep that has ended, so nobody looks"
    end(SweepState.RUNNING)
    assert pruner.round() == 1
    assert stray.key not in artifacts.keys("sweeps")

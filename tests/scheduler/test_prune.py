"""Exactly what nothing needs is deleted: nothing that a resume or a running attempt may need."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from recorded import LEASE_S, FakeClock, a_sweep, add_trials, claim, epoch, result

from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.identity import Ownership
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
    return a_pruner(records, artifacts)


def a_pruner(records: Records, artifacts: Artifacts, grace_s: float = 0.0) -> Pruner:
    ownership = Ownership(records, artifacts, together=False)
    return Pruner(records, artifacts, ownership, leftover_s=3600.0, grace_s=grace_s)


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


def test_unrecorded_files_are_deleted_after_their_attempt(
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
    """Two stores may share a folder: what one does not know may belong to the other."""
    keys = ["sweeps/other999/trials/0/1/checkpoint-1-00000000", "bundles/1234.zip"]
    for key in keys:
        artifacts.put(key, b"of another store")
    assert pruner.round() == 0
    assert set(keys) <= set(artifacts.keys())


def test_a_sweep_is_cleaned_up_once_and_again_after_it_continues(
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


def test_unneeded_artifacts_wait_for_their_grace(
    records: Records, artifacts: Artifacts, clock: FakeClock
) -> None:
    for trial, value in enumerate([0.5, 0.1, 0.4, 0.2]):
        finish(records, artifacts, trial, value)
    running = train(records, artifacts, 4, 4)
    pruner = a_pruner(records, artifacts, 300.0)
    assert pruner.round() == 0
    clock.pass_s(61.0)
    assert pruner.round() == 3 * 4 + 2, "a checkpoint is followed by another soon"
    clock.pass_s(200.0)
    assert pruner.round() == 0
    clock.pass_s(40.0)
    assert pruner.round() == 1, "the model behind the best three"
    kept = {trial: [ref.epoch for ref in refs] for trial, refs in records.artifacts(SWEEP).items()}
    assert kept == {1: [3], 2: [3], 3: [3], running.trial: [4, 3]}


def test_artifacts_needed_again_stay(records: Records, artifacts: Artifacts, clock: FakeClock) -> None:
    key = train(records, artifacts, 0, 3)
    pruner = a_pruner(records, artifacts, 50.0)
    assert pruner.round() == 0
    (newest, *_) = records.artifacts(SWEEP)[0]
    records.forget_artifacts([newest.key])
    clock.pass_s(51.0)
    pruner.round()
    assert [ref.epoch for ref in records.artifacts(SWEEP)[0]] == [2, 1]
    assert key.trial == 0


def test_an_orphan_waits_by_its_own_age(records: Records, artifacts: Artifacts, clock: FakeClock) -> None:
    running = train(records, artifacts, 0, 1)
    stray = put(artifacts, running, "checkpoint", 2)
    clock.pass_s(LEASE_S + 1)
    records.expire_leases()
    assert a_pruner(records, artifacts, 300.0).round() == 0
    path = Path(artifacts.uri(stray.key).removeprefix("file://"))
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 301.0))
    assert a_pruner(records, artifacts, 300.0).round() == 1


def test_a_copy_of_the_records_deletes_nothing(
    records: Records, artifacts: Artifacts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for trial, value in enumerate([0.5, 0.1, 0.4, 0.2]):
        finish(records, artifacts, trial, value)
    Ownership(records, artifacts, together=False).claim()
    with (
        closing(sqlite3.connect(tmp_path / "store.db")) as old,
        closing(sqlite3.connect(tmp_path / "copy.db")) as new,
    ):
        old.backup(new)
    before = artifacts.keys()
    with closing(Records(f"sqlite:///{tmp_path / 'copy.db'}")) as copy:
        pruner = a_pruner(copy, artifacts)
        assert [pruner.round() for _ in range(3)] == [0, 0, 0]
    assert artifacts.keys() == before
    assert [line for line in caplog.messages if "copy" in line] == caplog.messages[:1], "said once"
    assert a_pruner(records, artifacts).round() == 13


def test_a_sweep_that_ended_leaves_no_empty_folders(
    records: Records, artifacts: Artifacts, pruner: Pruner, tmp_path: Path
) -> None:
    for trial in range(4):
        finish(records, artifacts, trial, 0.1 * trial)
    with records.deciding(SWEEP) as decision:
        decision.set_state(SweepState.COMPLETED, "for the test")
    pruner.round()
    folders = [path for path in (tmp_path / "artifacts" / "sweeps").rglob("*") if path.is_dir()]
    assert [path for path in folders if not any(path.iterdir())] == []
    assert len(artifacts.keys("sweeps")) == 3

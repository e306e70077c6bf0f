"""The checker finds nothing in a sound sweep, and detects each kind of violation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from chaos import checker
from recorded import FakeClock, a_sweep, add_trials
from sqlalchemy import bindparam, update

from kerasweep.jobs.store import progress
from kerasweep.jobs.store.artifacts import ArtifactRef, Artifacts
from kerasweep.jobs.store.models import Claim, EpochRecord, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.store.sql import moves
from kerasweep.jobs.store.sql import schema as t
from kerasweep.jobs.trial import AttemptKey, SweepState, TrialKey, TrialState

LEASE_S = 30.0
TRIALS = 3
EPOCHS = 4
VALUES = [0.9, 0.5, 0.4, 0.6]


@dataclass
class Site:
    """A recorded sweep with its files, on a clock that the test moves."""

    url: str
    records: Records
    artifacts: Artifacts
    clock: FakeClock
    sweep: str = "abcd1234"

    def claim(self, trial: int) -> Claim:
        claim = self.records.claim(TrialKey(self.sweep, trial), "w1", LEASE_S)
        assert claim
        return claim

    def write(self, key: AttemptKey, *epochs: int) -> None:
        """Record epochs, one second each, with a checkpoint after each."""
        for epoch in epochs:
            self.clock.pass_s(1.0)
            ref = self.put("checkpoint", key, epoch)
            entry = EpochRecord(epoch, {"val_loss": VALUES[epoch - 1]}, 1.0)
            self.records.record([Progress(key, (entry,), (ref,))], LEASE_S)

    def put(self, kind: str, key: AttemptKey, epoch: int) -> ArtifactRef:
        name = f"sweeps/{key.sweep}/trials/{key.trial}/{key.attempt}/{kind}-{epoch}-00000000.npz"
        return ArtifactRef(kind, name, *self.artifacts.put(name, name.encode()), epoch)

    def finish(self, key: AttemptKey, digest: str = "d" * 64) -> None:
        model = self.put("model", key, 3)
        result = Result(TrialState.COMPLETED, 0.4, 3, EPOCHS, {"val_loss": 0.4}, digest, model)
        self.records.finish(key, result)

    def train(self, trial: int) -> None:
        key = self.claim(trial).key
        self.write(key, *range(1, EPOCHS + 1))
        self.finish(key)

    def end(self) -> None:
        with self.records.deciding(self.sweep) as decision:
            decision.set_state(SweepState.COMPLETED, "every trial has ended")

    def findings(self) -> list[str]:
        folder = Path(self.artifacts.url)
        return checker.check(self.url, folder, self.sweep, trials=TRIALS, lease_s=LEASE_S, grace_s=60.0)

    def rules(self) -> set[str]:
        return {finding.split(":")[0] for finding in self.findings()}


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    clock = FakeClock()
    made = Site(url, Records(url, clock=clock), Artifacts(str(tmp_path / "artifacts")), clock)
    bundle = ArtifactRef("bundle", "bundles/job.zip", *made.artifacts.put("bundles/job.zip", b"zip"))
    made.records.create_sweep(replace(a_sweep(), bundle=bundle))
    add_trials(made.records, made.sweep, range(TRIALS))
    yield made
    made.records.close()


@pytest.fixture
def sound(site: Site) -> Site:
    """A sweep in which one trial's worker was lost and one was preempted, and everything ended well."""
    lost = site.claim(0).key
    site.write(lost, 1, 2)
    site.clock.pass_s(LEASE_S + 1)
    assert site.records.expire_leases() == [TrialKey(site.sweep, 0)]
    second = site.claim(0).key
    site.write(second, 3, 4)
    site.finish(second)
    preempted = site.claim(1).key
    site.write(preempted, 1)
    site.records.release(preempted, TrialState.QUEUED, "preempt")
    third = site.claim(1).key
    site.write(third, 2, 3, 4)
    site.finish(third)
    site.train(2)
    site.end()
    return site


@pytest.fixture
def without_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any attempt write, as if there were no fencing."""

    locked = moves._LOCK.where(moves._IS_TRIAL).with_for_update(of=t.trials, key_share=True)
    updated = t.trials.update().where(moves._IS_TRIAL)
    monkeypatch.setattr(moves, "_LOCK_HELD", locked)
    monkeypatch.setattr(moves, "_END_TRIAL", updated)
    monkeypatch.setattr(progress, "_RENEW", updated.values(lease_until=bindparam("until")))
    monkeypatch.setattr(progress, "_COUNT_EPOCHS", updated.values(epochs=bindparam("newest")))


def test_a_sound_sweep_has_no_findings(sound: Site) -> None:
    assert sound.findings() == []


def test_fencing_off_is_found(site: Site, without_fence: None) -> None:
    stale = site.claim(0).key
    site.write(stale, 1)
    site.clock.pass_s(LEASE_S + 1)
    site.records.expire_leases()
    newest = site.claim(0).key
    site.write(newest, 2)
    late = Progress(stale, (EpochRecord(3, {"val_loss": VALUES[2]}, 1.0),))
    site.clock.pass_s(1.0)
    row_key = AttemptKey(site.sweep, 0, newest.attempt)
    with site.records._db.writing() as conn:  # the answer of a store without fencing
        progress.write_progress(conn, [late], site.clock())
    site.write(row_key, 4)
    site.finish(row_key)
    site.train(1)
    site.train(2)
    site.end()
    assert {"newest_attempt_writes", "epochs_whole"} <= site.rules()


def test_a_double_finish_is_found(site: Site, without_fence: None) -> None:
    stale = site.claim(0).key
    site.write(stale, 1)
    site.clock.pass_s(LEASE_S + 1)
    site.records.expire_leases()
    newest = site.claim(0).key
    site.write(newest, 2, 3, 4)
    site.finish(newest)
    site.finish(stale, digest="e" * 64)
    site.train(1)
    site.train(2)
    site.end()
    assert {"every_trial_once", "moves_allowed"} <= site.rules()


def test_a_lease_taken_back_early_is_found(sound: Site) -> None:
    with sound.records._db.writing() as conn:
        lost = t.attempts.c.outcome == "failed: lost"
        conn.execute(update(t.attempts).where(lost).values(ended_at=t.attempts.c.started_at + 3.0))
    assert "leases_apart" in sound.rules()


def test_the_dead_may_lose_a_lease_early(sound: Site) -> None:
    with sound.records._db.writing() as conn:
        lost = t.attempts.c.outcome == "failed: lost"
        early = {"ended_at": t.attempts.c.started_at + 3.0, "message": t.attempts.c.worker + " has died"}
        conn.execute(update(t.attempts).where(lost).values(early))
    assert "leases_apart" not in sound.rules()


def test_overlapping_attempts_are_found(sound: Site) -> None:
    with sound.records._db.writing() as conn:
        second = (t.attempts.c.trial == 1) & (t.attempts.c.number == 2)
        conn.execute(update(t.attempts).where(second).values(started_at=t.attempts.c.started_at - 2.0))
    assert "leases_apart" in sound.rules()


def test_a_lost_trial_is_found(site: Site) -> None:
    site.train(0)
    site.train(1)
    site.end()
    assert "every_trial_once" in site.rules()


def test_a_gap_in_the_epochs_is_found(sound: Site) -> None:
    with sound.records._db.writing() as conn:
        conn.execute(t.epochs.delete().where(t.epochs.c.trial == 2, t.epochs.c.epoch == 2))
    assert sound.rules() == {"epochs_whole"}


def test_a_wrong_best_epoch_is_found(sound: Site) -> None:
    with sound.records._db.writing() as conn:
        conn.execute(update(t.trials).where(t.trials.c.number == 2).values(best_epoch=1))
    assert "epochs_whole" in sound.rules()


def test_a_flipped_bit_and_a_missing_file_are_found(sound: Site) -> None:
    files = sorted(Path(sound.artifacts.url).rglob("model-*"))
    files[0].write_bytes(b"x" + files[0].read_bytes()[1:])
    files[1].unlink()
    assert len([finding for finding in sound.findings() if finding.startswith("artifacts_right")]) == 2


def test_an_orphan_is_found_once_the_grace_is_over(sound: Site) -> None:
    orphan = Path(sound.artifacts.url) / "sweeps" / "checkpoint-9-00000000.npz"
    orphan.write_bytes(b"nobody's")
    assert sound.findings() == []
    old = time.time() - 100.0
    os.utime(orphan, (old, old))
    assert sound.rules() == {"nothing_unreferenced"}


def test_a_trial_that_began_again_is_found(sound: Site) -> None:
    line = {"sweep": sound.sweep, "trial": 2, "attempt": 1, "at": sound.clock.now - 1.0}
    text = "none of 2 checkpoints could be used: the trial starts again from epoch 1"
    with sound.records._db.writing() as conn:
        conn.execute(t.logs.insert().values(**line, text=text))
    assert sound.rules() == {"nothing_started_again"}


def test_a_process_left_behind_is_found() -> None:
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    assert checker.leftovers(marker) == []
    left = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "MARK": marker}
    )
    try:
        assert any(f"process {left.pid} " in finding for finding in checker.leftovers(marker))
    finally:
        left.communicate(b"\n")
    assert checker.leftovers(marker) == []


def test_tables_are_equal_whatever_the_sweeps_id(sound: Site) -> None:
    mine = checker.table(sound.url, sound.sweep)
    assert mine.count(b"\n") == TRIALS
    assert checker.differences(mine, mine) == []


@pytest.mark.parametrize("column", [{"digest": "f" * 64}, {"value": 0.4000000001}, {"best_epoch": 2}])
def test_a_table_that_differs_by_one_value_is_found(sound: Site, column: dict[str, object]) -> None:
    before = checker.table(sound.url, sound.sweep)
    with sound.records._db.writing() as conn:
        conn.execute(update(t.trials).where(t.trials.c.number == 1).values(column))
    after = checker.table(sound.url, sound.sweep)
    assert checker.differences(before, after) == [f"trial 1 differs in {next(iter(column))}"]

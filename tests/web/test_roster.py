"""What the page keeps in memory: read once for all viewers, and again only where it has changed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from audience import Audience
from crowd import record_many
from staged import Stage

from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import EpochRecord, Progress, Result
from kerasweep.jobs.store.records import Records
from kerasweep.jobs.trial import SweepState, TrialState
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.web import listening
from kerasweep.scheduler.web.gate import Access
from kerasweep.scheduler.web.roster import Roster, Rosters
from kerasweep.scheduler.web.shelf import Cache, Shelf
from kerasweep.scheduler.web.timeline import timeline


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / ".kerasweep")
    yield stage
    stage.records.close()


def count_rows(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of the reads that a roster makes, and the trials that they return."""
    found: Counter[str] = Counter()
    read = Records.changed_trials

    def counted(self: Records, *given: Any) -> Any:
        trials, newest = read(self, *given)
        found.update(calls=1, rows=len(trials))
        return trials, newest

    monkeypatch.setattr(Records, "changed_trials", counted)
    return found


def test_a_change_is_read_once_for_all_viewers_and_only_what_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, rows = stage.sweep(), count_rows(monkeypatch)
    with Client(home=str(stage.home)) as client:
        shelf = Shelf(client)
        rosters, found = Rosters(shelf), shelf.sweep(sweep)
        assert len(rosters.of(found).trials) == 8
        stage.complete(sweep, 3, (0.9, 0.4))
        stage.complete(sweep, 5, (0.9, 0.2))
        shelf.marks(fresh=True)
        threads = [threading.Thread(target=rosters.of, args=(found,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now = rosters.of(found)
    assert rows == {"calls": 2, "rows": 8 + 2}
    assert [one.number for one in now.ranking] == [5, 3]
    assert [one.trial for one in now.attempts] == [3, 5]


def test_a_roster_that_followed_a_sweep_is_one_that_is_read_anew(stage: Stage) -> None:
    sweep = stage.sweep()
    with Client(home=str(stage.home)) as client:
        followed, found = Roster(), client.sweep(sweep)
        for move in (
            lambda: stage.complete(sweep, 0),
            lambda: stage.fail(sweep, 1),
            lambda: stage.claim(sweep, 2, (0.5,)),
            lambda: found.retry(1),
            lambda: stage.claim(sweep, 1, (0.3, 0.2)),
            lambda: found.cancel(4),
            lambda: stage.fail(sweep, 3),
            lambda: (found.retry(3), stage.fail(sweep, 3, "again")),
            lambda: found.pause(),
            lambda: found.resume(),
        ):
            move()
            followed = followed.refreshed(found, 0.0)  # by the journal alone
        anew = Roster().refreshed(found, 0.0)
        assert followed == anew
        assert followed.trials[3].attempts == 2
        assert followed.refreshed(found, 100.0).trials is followed.trials, (
            "every trial is looked at, none read"
        )


def test_what_several_ask_for_at_once_is_made_once_and_kept_for_its_mark() -> None:
    cache, made = Cache(2), list[int]()
    for mark in ("a", "a", "b"):
        cache.get("x", lambda one=mark: one, lambda: made.append(1))
    assert len(made) == 2
    for key in ("y", "z", "x"):
        cache.get(key, lambda: "b", lambda: made.append(1))
    assert len(made) == 5, "the oldest was dropped"


def test_the_timeline_tells_rungs_what_was_resumed_and_what_was_stopped(stage: Stage) -> None:
    sweep = stage.sweep()
    _stand_at_a_rung(stage, sweep, 0)
    _stand_at_a_rung(stage, sweep, 1)
    with stage.records.deciding(sweep) as decision:
        decision.move(TrialState.QUEUED, "promoted", 0, among=[TrialState.WAITING], rung=None)
        decision.move(TrialState.STOPPED, "not among the best", 1, among=[TrialState.WAITING])
    key, _ = stage.claim(sweep, 0)
    stage.records.record([Progress(key, (EpochRecord(4, {"val_loss": 0.1}, 0.2),))], 600.0)
    stage.fail(sweep, 2)
    with Client(home=str(stage.home)) as client:
        found = client.sweep(sweep)
        roster = Roster().refreshed(found, 0.0)
        drawn = "".join(lane.bars for lane in timeline(found, roster, roster.trials, "/sweeps/x").lanes)
        some = timeline(found, roster, roster.trials[2:], "/sweeps/x")
    assert "trial 0, attempt 1: reached rung 3" in drawn
    assert "trial 0, attempt 2: resumed after epoch 3, running" in drawn
    assert "trial 1, attempt 1: reached rung 3, then stopped" in drawn
    assert drawn.count('class="rung"') == 2
    assert 'class="bar failed"' in drawn
    assert [lane.bars.count("<rect") for lane in some.lanes] == [1]


def _stand_at_a_rung(stage: Stage, sweep: str, trial: int) -> None:
    key, progress = stage.claim(sweep, trial, (0.9, 0.5, 0.3))
    name = f"sweeps/{sweep}/trials/{trial}/1/checkpoint-3.npz"
    sha256, size = stage.artifacts.put(name, b"state")
    result = Result(TrialState.WAITING, 0.3, 3, 3, {"val_loss": 0.3}, "0" * 64)
    stage.records.hold(key, result, ArtifactRef("checkpoint", name, sha256, size, 3), progress)


def test_many_viewers_of_many_trials_are_answered(tmp_path: Path, until: Any) -> None:
    home = tmp_path / ".kerasweep"
    sweep, port = record_many(home, 2_000, 600), listening.free_port(0)
    stage, audience, queued = Stage(home), Audience(port, sweep, patience_s=6.0), iter(range(2_000, 2_600))

    def all_are_told() -> bool:
        """Change something: whoever lost patience, and read a page anew, has missed the changes before."""
        if (trial := next(queued, None)) is not None:
            stage.complete(sweep, trial, (0.9, 0.01))
        return len(audience.told) == 8 or bool(audience.problems)

    with Client(home=str(home)) as client, listening.beside(client, Access(port=port)):
        watching = threading.Thread(target=audience.watch, args=(8, 120.0))
        watching.start()
        until(lambda: len(audience.arrived) == 8 or audience.problems, 60, "eight viewers")
        until(all_are_told, 60, "each is told of a change")
        audience.over.set()
        stage.end(sweep, SweepState.COMPLETED)
        watching.join()
    stage.records.close()
    assert audience.problems == []
    times = sorted(audience.times_ms)
    assert len(times) >= 16
    assert times[len(times) // 2] < 2_000, "also beside the viewers, in one process, on a busy machine"

"""run and watch: what they show, print and return; a stand-in trains where TensorFlow is not needed."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rich.console import Console
from shown import Browser

from kerasweep.jobs.errors import InputError, OutOfReach
from kerasweep.jobs.kernel import ProcessKind
from kerasweep.jobs.settings import Settings
from kerasweep.jobs.store.artifacts import ArtifactRef
from kerasweep.jobs.store.models import Progress, Result
from kerasweep.jobs.trial import AttemptKey, SweepState, TrialState
from kerasweep.scheduler.cli.entry import StderrHandler
from kerasweep.scheduler.client.client import Client
from kerasweep.scheduler.deciding import reconcile
from kerasweep.scheduler.deciding.advance import advance
from kerasweep.scheduler.show import live
from kerasweep.scheduler.show.screen import draw, take

Round = Callable[["LocalStandIn"], None]


class LocalStandIn:
    """Replaces the local worker and scheduler: does in each round what the test says."""

    stage: Any
    rounds: list[Round]
    made: list[LocalStandIn]

    def __init__(self, settings: Settings, worker_flags: tuple[str, ...]) -> None:
        self.settings, self.worker_flags = settings, worker_flags
        self.killed = self.ended = self.kept = False

    def __enter__(self) -> LocalStandIn:
        self.start_worker()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True

    def start_worker(self) -> None:
        if self not in self.made:
            self.made.append(self)

    def close(self) -> None:
        self.ended = True

    def check(self) -> None:
        if self.rounds:
            self.rounds.pop(0)(self)

    def keep(self) -> None:
        self.kept = True

    def kill(self) -> None:
        self.killed = True

    @property
    def sweep(self) -> str:
        found: str = self.stage.records.sweeps()[0].id
        return found

    def complete(self) -> None:
        """Train every queued trial to its end."""
        for trial in self.stage.records.trials(self.sweep, [TrialState.QUEUED]):
            self.stage.complete(self.sweep, trial.number, [0.9, 0.8 - trial.number / 100])
        advance(self.stage.records, self.sweep)


@pytest.fixture
def local(stage: Any, monkeypatch: pytest.MonkeyPatch) -> type[LocalStandIn]:
    """Install the stand-in; return its class."""
    monkeypatch.setattr(LocalStandIn, "stage", stage, raising=False)
    monkeypatch.setattr(LocalStandIn, "rounds", [], raising=False)
    monkeypatch.setattr(LocalStandIn, "made", [], raising=False)
    monkeypatch.setattr("kerasweep.scheduler.local.embedded.Local", LocalStandIn)
    monkeypatch.setattr("kerasweep.scheduler.local.children.has_keras", lambda: True)
    return LocalStandIn


def test_run_shows_the_winner_and_how_to_fetch_it(local: type[LocalStandIn], shell: Any) -> None:
    local.rounds.append(LocalStandIn.complete)
    shown = shell("run", "sweep.yaml", "--slots", "4", "--gpus", "0,1", "--engine", "fit")
    assert shell.code == 0, shell.err
    assert "[8/8] trial 7 completed  val_loss 0.73000 at epoch 2 of 2" in shown
    assert "The winner of 8 trials (8 completed)" in shown
    assert "kerasweep fetch mlp winner" in shown
    [made] = local.made
    assert made.worker_flags == ("--slots=4", "--gpus=0,1", "--engine=fit")
    assert made.ended


def test_what_trains_stays_as_long_as_the_command_says(
    local: type[LocalStandIn], shell: Any, stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the option, else by the variable; without either, only what is there already is looked for."""
    asked: list[float] = []

    def keep(settings: Settings, flags: tuple[str, ...], keep_s: float, _: object) -> LocalStandIn:
        asked.append(keep_s)
        return LocalStandIn(settings, flags)

    monkeypatch.setattr("kerasweep.scheduler.local.kept.KeptLocal", keep)

    def run(*words: str) -> None:
        local.rounds.append(LocalStandIn.complete)
        shell("run", "sweep.yaml", *words)
        assert (shell.code, local.made[-1].kept) == (0, True), shell.err

    run()
    run("--keep-warm", "60")
    monkeypatch.setenv("KERASWEEP_KEEP_WARM", "30")
    run()
    run("--keep-warm", "0")
    assert asked == [60, 30]
    (stage.home / "warm").mkdir()
    run("--keep-warm", "0")
    assert asked == [60, 30, 0]
    shell("run", "sweep.yaml", "--keep-warm", "-1")
    assert shell.code == 2


def test_while_a_run_starts_status_asks_for_no_worker(
    local: type[LocalStandIn], shell: Any, stage: Any
) -> None:
    stage.sweep()
    shell("pause", "mlp")
    told: list[str | None] = []
    local.rounds.append(lambda _: told.append(Client().sweep("mlp").status().waiting))
    local.rounds.append(LocalStandIn.complete)
    shell("run", "--resume", "mlp")
    assert (shell.code, told) == (0, ["the worker is starting"])
    assert stage.records.alive(ProcessKind.RUN) == []


def test_run_shows_the_page_and_names_its_address(
    local: type[LocalStandIn], shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    answers: list[int] = []
    monkeypatch.setattr("kerasweep.scheduler.cli.following.say", told.append)

    def look(one: LocalStandIn) -> None:
        [address] = [line.split()[-1] for line in told if line.startswith("the page is at ")]
        found = urlsplit(address)
        assert found.path == f"/sweeps/{one.sweep}"
        answers.append(Browser(found.port or 0).get(found.path).status)
        one.complete()

    local.rounds.append(look)
    shell("run", "sweep.yaml", "--dashboard")
    assert shell.code == 0, shell.err
    assert answers == [200]


def test_run_as_json_prints_one_document(local: type[LocalStandIn], shell: Any) -> None:
    local.rounds.append(LocalStandIn.complete)
    document = json.loads(shell("run", "sweep.yaml", "-o", "json"))
    assert (document["trial"], document["state"], document["epoch"]) == (7, "completed", 2)
    assert set(document["model"]) == {"uri", "sha256", "bytes"}
    assert "trial 7 completed" in shell.err, "progress is told beside the document"


def test_messages_name_a_sweep_by_id_if_its_name_is_taken(
    local: type[LocalStandIn], shell: Any, stage: Any
) -> None:
    older = stage.sweep()
    stage.sweep()
    local.rounds.append(lambda one: [stage.complete(older, trial) for trial in range(8)])
    local.rounds.append(lambda one: advance(stage.records, older))
    shown = shell("run", "--resume", older)
    assert shell.code == 0, shell.err
    assert f"kerasweep fetch {older} winner" in shown
    assert Client().sweep("mlp").handle == "mlp"


def test_a_sweep_that_fails_fails_the_run(local: type[LocalStandIn], shell: Any) -> None:
    local.rounds.append(lambda one: one.stage.end(one.sweep, SweepState.FAILED, "no metric named val_los"))
    shell("run", "sweep.yaml")
    assert shell.code == 1
    assert "no metric named val_los" in shell.err
    assert len([line for line in shell.err.splitlines() if line]) <= 3
    local.rounds.append(lambda one: one.stage.end(one.sweep, SweepState.FAILED, "again"))
    document = json.loads(shell("run", "sweep.yaml", "-o", "json"))
    assert (shell.code, document["state"], document["trial"], document["message"]) == (
        1,
        "failed",
        None,
        "again",
    )


def test_a_cancelled_run_has_no_winner(local: type[LocalStandIn], shell: Any) -> None:
    local.rounds.append(lambda one: one.stage.end(one.sweep, SweepState.CANCELLED))
    shell("run", "sweep.yaml")
    assert shell.code == 1
    assert "is cancelled and has no winner" in shell.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_cleanly(local: type[LocalStandIn], shell: Any, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    local.rounds.append(lambda one: one.stage.complete(one.sweep, 0))
    local.rounds.append(lambda _: signal.raise_signal(number))
    shell("run", "sweep.yaml")
    assert shell.err.splitlines()[-2:] == [
        "interrupted: 1 of 8 trials has ended, 7 are left",
        "`kerasweep run --resume mlp` goes on from there",
    ]
    assert "error" not in shell.err
    assert shell.code == 1
    [made] = local.made
    assert (made.ended, made.killed, made.kept) == (True, False, False)
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_it_at_once(local: type[LocalStandIn], shell: Any) -> None:
    def twice(_: LocalStandIn) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    local.rounds.append(twice)
    shell("run", "sweep.yaml")
    assert local.made[0].killed


def test_resume_goes_on_with_the_same_sweep(local: type[LocalStandIn], stage: Any, shell: Any) -> None:
    def first_trial_then_sigterm(one: LocalStandIn) -> None:
        stage.complete(one.sweep, 0)
        signal.raise_signal(signal.SIGTERM)

    local.rounds.append(first_trial_then_sigterm)
    shell("run", "sweep.yaml")
    [sweep] = stage.records.sweeps()
    assert sweep.state is SweepState.PAUSED, "the next run in this folder must not train it"
    local.rounds.append(LocalStandIn.complete)
    shown = shell("run", "--resume", "mlp")
    assert shell.code == 0
    assert len(stage.records.sweeps()) == 1
    assert "1 of them ended before" in shown
    assert "trial 0 completed" not in shown


def test_a_new_run_names_an_interrupted_sweep_of_its_name(
    local: type[LocalStandIn], stage: Any, shell: Any
) -> None:
    local.rounds.append(lambda _: signal.raise_signal(signal.SIGINT))
    shell("run", "sweep.yaml")
    assert "note:" not in shell.err
    [sweep] = stage.records.sweeps()
    local.rounds.append(LocalStandIn.complete)
    shell("run", "sweep.yaml", "--name", "other")
    assert "note:" not in shell.err
    local.rounds.append(LocalStandIn.complete)
    shell("run", "sweep.yaml")
    assert shell.code == 0, shell.err
    note = f"an interrupted sweep mlp ({sweep.id}) is there; `kerasweep run --resume {sweep.id}` goes on"
    assert f"note: {note} with it" in shell.err.splitlines()
    assert len(stage.records.sweeps()) == 3


def test_a_run_whose_method_lacks_its_package_writes_nothing(
    local: type[LocalStandIn], folder: Path, shell: Any, no_torch: None
) -> None:
    sweep = json.loads((folder / "sweep.yaml").read_text()) | {"method": "gp", "budget": {"max_trials": 8}}
    (folder / "sweep.yaml").write_text(json.dumps(sweep))
    before = sorted(folder.rglob("*"))
    shell("run", "sweep.yaml")
    assert shell.code == 2
    assert "method 'gp' needs the package torch, which is not installed here" in shell.err
    assert "pip install 'kerasweep[gp]', or use method tpe" in shell.err
    assert (local.made, sorted(folder.rglob("*"))) == ([], before)


def test_a_sweep_is_resumed_without_the_package_if_its_points_are_chosen(
    local: type[LocalStandIn], stage: Any, shell: Any, no_torch: None
) -> None:
    sweep = stage.sweep(method="gp", budget={"max_trials": 8})
    with stage.records.deciding(sweep) as decision:
        decision.set_max_trials(9)
    shell("run", "--resume", "mlp")
    assert (shell.code, local.made) == (2, [])
    assert "method 'gp' needs the package torch, which is not installed here" in shell.err
    with stage.records.deciding(sweep) as decision:
        decision.set_max_trials(8)
    local.rounds.append(LocalStandIn.complete)
    shell("run", "--resume", "mlp")
    assert shell.code == 0, shell.err


def test_a_run_ends_if_its_sweep_is_paused_for_what_must_be_corrected(
    local: type[LocalStandIn], stage: Any, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scheduler(one: LocalStandIn) -> None:
        with monkeypatch.context() as lacking:
            lacking.setattr(reconcile, "advance", refuse)
            reconcile.advance_or_tell(stage.records, one.sweep)

    def refuse(*_: object) -> None:
        raise InputError("method 'gp' needs the package torch\npip install it")

    local.rounds.append(scheduler)
    shown = shell("run", "sweep.yaml")
    assert shell.code == 2
    told = "method 'gp' needs the package torch; pip install it"
    assert shell.err.splitlines()[-2:] == [
        f"error: sweep mlp is paused: {told}",
        "`kerasweep run --resume mlp` goes on once that is corrected; 0 of 8 trials have ended, 8 are left",
    ]
    assert (told in shown.splitlines(), local.made[0].ended, local.made[0].kept) == (True, True, False)
    status = json.loads(shell("status", "mlp", "-o", "json"))
    assert (status["state"], status["message"]) == ("paused", told)
    assert "`kerasweep run --resume mlp` resumes it" in status["waiting"]
    assert "sweep paused" in shell("journal", "mlp")
    assert Client().sweep("mlp").wait() is SweepState.PAUSED, "without a timeout"
    local.rounds.append(LocalStandIn.complete)
    shell("run", "--resume", "mlp")
    assert shell.code == 0, shell.err


def test_other_sweeps_that_would_train_beside_it_are_named(
    local: type[LocalStandIn], stage: Any, shell: Any
) -> None:
    stage.sweep(name="left-over")
    local.rounds.append(LocalStandIn.complete)
    shell("run", "sweep.yaml")
    assert shell.code == 0
    assert "also training other sweeps of this store: left-over" in shell.err


def test_resume_of_a_finished_sweep_starts_nothing(local: type[LocalStandIn], shell: Any) -> None:
    local.rounds.append(LocalStandIn.complete)
    shell("run", "sweep.yaml")
    assert "The winner" in shell("run", "--resume", "mlp")
    assert len(local.made) == 1


@pytest.mark.parametrize(
    "words", [(), ("sweep.yaml", "--resume", "mlp"), ("nowhere.yaml",), ("--resume", "nope")]
)
def test_a_run_that_cannot_begin_starts_nothing(
    local: type[LocalStandIn], shell: Any, words: tuple[str, ...]
) -> None:
    shell("run", *words)
    assert shell.code == 2
    assert local.made == []


def test_a_run_without_tensorflow_says_what_to_install(
    local: type[LocalStandIn], shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kerasweep.scheduler.local.children.has_keras", lambda: False)
    shell("run", "sweep.yaml")
    assert shell.code == 2
    assert "pip install 'kerasweep[worker]'" in shell.err
    assert local.made == []


def test_watch_reports_each_end_and_why_nothing_happens(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 1)
    stage.fail(sweep, 2)
    stage.end(sweep, SweepState.COMPLETED)
    lines = shell("watch", "mlp").splitlines()
    assert lines[0] == f"mlp ({sweep}): up to 8 trials, minimize val_loss"
    assert "trial 1 completed  val_loss 0.30000 at epoch 2 of 3" in lines[1]
    assert "trial 2 failed  diverged: the loss became NaN in epoch 2" in lines[2]


def test_a_stopped_trial_is_told_with_the_epochs_that_it_would_have_trained(stage: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 1)
    trial = replace(Client().sweep(sweep).trial_records()[1], state=TrialState.STOPPED)
    assert "at epoch 2 of 12" in live.ended_line(trial, "val_loss", planned=12)
    assert "at epoch 2 of 3" in live.ended_line(trial, "val_loss")


def test_the_end_by_patience_is_told(stage: Any, shell: Any) -> None:
    sweep, told = stage.sweep(), "ended after 1 of 8 trials: no improvement for 8 trials (stopping.patience)"
    stage.complete(sweep, 1)
    stage.end(sweep, SweepState.COMPLETED, told)
    assert shell("watch", "mlp").splitlines()[-1] == told
    assert told in shell("status", "mlp")


def test_equal_reasons_are_told_once_and_no_trial_is_left_out(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    for trial in range(3):
        stage.fail(sweep, trial, "no such file")
    stage.claim(sweep, 3, [0.5])
    said: list[str] = []
    view = live.Lines(Client().sweep(sweep), said.append)
    with stage.records.deciding(sweep) as decision:
        decision.move(TrialState.CANCELLED, "the sweep was halted")
    stage.end(sweep, SweepState.FAILED, "no such file")
    view.update()
    assert [" ".join(line.split("  ")[:2]) for line in said[1:]] == [
        "[1/8] trial 0 failed diverged: no such file",
        "[2/8] trial 1 failed as trial 0 did",
        "[3/8] trial 2 failed as trial 0 did",
        "[7/8] 4 trials (4, 5, 6, 7) cancelled before they began",
        "1 trial still runs and stops at the next step, or when the lease of a lost worker ends",
    ]
    status = shell("status", "mlp")
    assert status.count("no such file") == 1
    assert "3 trials (0, 1, 2)  diverged: as the message says" in status


def test_watch_as_json_is_a_line_for_each_end(stage: Any, shell: Any) -> None:
    sweep = stage.sweep()
    stage.complete(sweep, 1)
    stage.end(sweep, SweepState.FAILED, "it broke")
    documents = [json.loads(line) for line in shell("watch", "mlp", "-o", "json").splitlines()]
    assert [one.get("trial") for one in documents] == [1, None]
    assert documents[-1]["state"] == "failed"
    assert shell.code == 1
    assert "state" in shell("watch", "mlp", "-o", "csv").splitlines()[0]
    assert shell.code == 1


def test_lines_report_once_what_a_sweep_waits_for(stage: Any) -> None:
    sweep = Client().sweep(stage.sweep())
    said: list[str] = []
    view = live.Lines(sweep, said.append)
    for _ in range(3):
        assert view.update() is SweepState.RUNNING
    (waiting,) = [line for line in said if line.startswith("waiting: ")]
    assert "no scheduler and no worker is alive; `kerasweep run --resume mlp` resumes it" in waiting


def test_lines_say_now_and_then_that_a_sweep_goes_on(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Client().sweep(stage.sweep())
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    said: list[str] = []
    view = live.Lines(sweep, said.append, kept=True)
    for now[0] in (5.0, 11.0, 12.0, 70.0):
        view.update()
    assert said[1:] == ["the worker is starting: 8 queued"]
    stage.claim(sweep.id, 0)
    now[0] = 72.0
    view.update()
    assert said[2:] == ["the worker is starting: 7 queued, 1 running"]
    stage.records.seen("worker-1@here", {"queues": ["train.cpu"]})
    now[0] = 133.0
    view.update()
    assert said[3:] == ["no trial has ended yet: 7 queued, 1 running"]


def test_following_waits_a_short_outage_out() -> None:
    class Flaky:
        updates = 0
        closed = False

        def update(self) -> SweepState:
            self.updates += 1
            if self.updates < 3:
                raise OutOfReach("The store", "sqlite:///x", "wait")
            return SweepState.COMPLETED

        def close(self) -> None:
            self.closed = True

    view = Flaky()
    assert live.follow(view, lambda: False, pause_s=0.0) is SweepState.COMPLETED
    assert (view.updates, view.closed) == (3, True)


def test_following_a_long_outage_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def update(self) -> SweepState:
            raise OutOfReach("The store", "sqlite:///x", "wait")

        def close(self) -> None:
            pass

    monkeypatch.setattr(live, "_OUTAGE_S", -1.0)
    with pytest.raises(OutOfReach):
        live.follow(Gone(), lambda: False, pause_s=0.0)


@pytest.fixture
def busy(stage: Any) -> Any:
    """A sweep with three running trials, two completed ones and one that failed."""
    stage.records.seen("worker-1@here", {})
    stage.records.seen("scheduler-1@here", {}, ProcessKind.SCHEDULER)
    sweep = stage.sweep()
    stage.complete(sweep, 0, [0.5, 0.4])
    stage.complete(sweep, 1, [0.5, 0.2, 0.3])
    stage.fail(sweep, 2)
    for trial in (3, 4, 5):
        stage.claim(sweep, trial, [0.9, 0.7, 0.8])
    return Client().sweep(sweep)


def drawn(sweep: Any, width: int, rows: int) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(draw(take(sweep, rows), width))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_its_terminal(busy: Any, width: int) -> None:
    lines = drawn(busy, width, 4)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 4 + 8
    assert len([line for line in lines if " running " in line and "━" not in line[:3]]) >= 3


def test_the_table_tells_all_that_matters(busy: Any) -> None:
    lines = drawn(busy, 140, 10)
    text = "\n".join(lines)
    assert lines[0].startswith(f"mlp  {busy.id}  running · ")
    assert "3 of 8 trials · 3 running · 1 failed · about" in lines[1]
    assert lines[2].startswith("best val_loss 0.20000  trial 1, epoch 2")
    running = next(line for line in lines if line.strip().startswith("3 "))
    assert running.split()[:4] == ["3", "running", "0.01", "100"]
    assert running.split()[-4:] == ["3/10", "0.80000", "0.70000", "2"]
    order = [line.split()[0] for line in lines if line.split() and line.split()[0].isdigit()]
    assert order == ["3", "4", "5", "1", "0"], "running trials first, then the best"
    assert "and 2 queued, 1 failed" in text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_values_are_left_out_before_one_is_cut(stage: Any, width: int) -> None:
    space = {f"parameter_{number}": {"values": [number + 0.125, number + 0.25]} for number in range(6)}
    sweep = stage.sweep(parameters=space)
    stage.claim(sweep, 0, [0.9])
    lines = drawn(Client().sweep(sweep), width, 4)
    assert max(map(len, lines)) <= width
    head, row = (next(line for line in lines if line.startswith(start)) for start in ("trial", "    0"))
    if width == 80:
        assert head.split()[2:7] == ["…eter_0", "…eter_1", "…eter_2", "…eter_3", "+3"]
        assert row.split()[2:7] == ["0.125", "1.125", "2.125", "3.125", "…"]
    else:
        assert row.split()[2:8] == ["0.125", "1.125", "2.125", "3.125", "4.125", "5.125"]
        assert ("parameter_0" in head) is (width == 200)


def test_parameters_stand_as_in_the_sweep_file(stage: Any) -> None:
    space = {
        "optimizer": {"values": ["adam", "sgd"]},
        "momentum": {"values": [0.5, 0.9], "when": {"optimizer": ["sgd"]}},
        "units": {"values": [50, 100]},
    }
    sweep = stage.sweep(parameters=space)
    for trial in range(stage.records.sweep(sweep).max_trials):
        stage.claim(sweep, trial, [0.9])
    head = next(line for line in drawn(Client().sweep(sweep), 140, 20) if line.startswith("trial"))
    assert head.split()[2:6] == ["optimizer", "momentum", "units", "patience"]


def test_a_row_shows_only_the_newest_attempt(stage: Any) -> None:
    sweep = stage.sweep()
    key, _ = stage.claim(sweep, 0, [0.9, 0.7, 0.5])
    stage.records.release(key, TrialState.QUEUED, "its worker has died")
    stage.claim(sweep, 0, [0.9])
    row = next(line for line in drawn(Client().sweep(sweep), 140, 4) if line.startswith("    0"))
    assert row.split()[-4:] == ["1/10", "0.90000", "0.90000", "1"]


def test_before_any_epoch_the_table_explains_the_delay(stage: Any) -> None:
    sweep = stage.sweep()
    stage.claim(sweep, 0)
    assert "loading data, compiling" in drawn(Client().sweep(sweep), 60, 4)[2]
    stage.claim(sweep, 1, [0.9])
    assert "best val_loss 0.90000  trial 1 (running)" in drawn(Client().sweep(sweep), 60, 4)[2]


def test_the_best_so_far_may_still_run_or_wait_at_a_rung(busy: Any, stage: Any, shell: Any) -> None:
    key, progress = stage.claim(busy.id, 6, [0.15, 0.1])
    best = "best val_loss 0.10000  trial 6 ({}), epoch 2"
    assert drawn(busy, 140, 10)[2].startswith(best.format("running"))
    hold(stage, key, progress, 0.1)
    assert drawn(busy, 140, 10)[2].startswith(best.format("waiting"))
    assert "0.20000 · trial 1 · epoch 2 · of those that ended" in shell("status", "mlp")


def test_a_wait_at_a_rung_makes_no_later_attempt(busy: Any, stage: Any) -> None:
    key, progress = stage.claim(busy.id, 6, [0.6, 0.5])
    hold(stage, key, progress, 0.5)
    with stage.records.deciding(busy.id) as decision:
        decision.move(TrialState.QUEUED, "goes on", 6)
    again, _ = stage.claim(busy.id, 6)
    assert again.attempt == 2
    assert "later attempt" not in drawn(busy, 140, 10)[1]
    stage.records.release(again, TrialState.QUEUED, "its worker stops")
    stage.claim(busy.id, 6)
    assert "1 in a later attempt" in drawn(busy, 140, 10)[1]


def test_a_wait_at_a_rung_is_no_further_attempt_in_tables(stage: Any, shell: Any) -> None:
    sweep = stage.sweep(stopping={"median": {"min_epochs": 2}})
    key, progress = stage.claim(sweep, 0, [0.6, 0.5])
    hold(stage, key, progress, 0.5)
    with stage.records.deciding(sweep) as decision:
        decision.move(TrialState.QUEUED, "goes on", 0)
    stage.claim(sweep, 0)
    assert json.loads(shell("trials", "mlp", "-o", "json"))[0]["attempts"] == 2
    assert "2 in 1 attempt" in shell("show", "mlp", "0")


def hold(stage: Any, key: AttemptKey, progress: Progress, value: float) -> None:
    """Let a trial wait at a rung after its second epoch."""
    reached = Result(TrialState.WAITING, value, 2, 2, {"val_loss": value}, "d" * 64, None, {})
    stage.records.hold(key, reached, ArtifactRef("checkpoint", "k", "c" * 64, 1, 2), progress)


def test_a_table_with_too_few_rows_counts_the_rest(busy: Any) -> None:
    assert "and 1 more that ended, 2 queued, 1 failed" in drawn(busy, 120, 4)[-1]


def test_the_live_table_restores_the_terminal(busy: Any, stage: Any) -> None:
    out = StringIO()
    view = live.LiveTable(busy, Console(file=out, force_terminal=True, width=100, height=30), kept=True)
    assert view.update() is SweepState.RUNNING
    stage.end(busy.id, SweepState.COMPLETED)
    assert view.update() is SweepState.COMPLETED
    view.close()
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h"), "the cursor is shown again"


def test_log_messages_appear_above_the_live_table(busy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """rich moves the cursor up over what it drew: a line written behind its back would be overwritten."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    record = logging.makeLogRecord({"msg": "the worker ended with signal SIGKILL"})
    console = Console(file=out, force_terminal=True, width=100, height=30)
    view = live.LiveTable(busy, console, kept=True)
    view.update()
    before = len(out.getvalue())
    StderrHandler().emit(record)
    view.close()
    after = out.getvalue()[before:]
    assert after.index("\x1b[1A") < after.index("the worker ended with signal SIGKILL") < after.index("best ")


@pytest.fixture
def long(stage: Any) -> Any:
    """A sweep of 10,000 trials, the first of which have ended."""
    hundred = list(range(1, 101))
    values = {"learning_rate": {"values": [n / 1e4 for n in hundred]}, "units": {"values": hundred}}
    sweep = stage.sweep(parameters=values, training={"epochs": 10}, budget={"max_trials": 10_000})
    for trial in range(5):
        stage.complete(sweep, trial)
    return Client().sweep(sweep)


def processor_s(work: Callable[[], object]) -> float:
    """Return the processor time of the cheapest of three calls: other processes may disturb one."""

    def once() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return min(once() for _ in range(3))


def test_a_long_sweep_is_read_quickly(long: Any) -> None:
    """Its 10,000 trials are counted, never read: that costs many times as much."""
    assert long.status().trials[TrialState.QUEUED] == 9_995
    assert len(take(long, 20).rows) == 5
    assert processor_s(lambda: take(long, 20)) < processor_s(long.trial_records) / 4


def test_every_end_of_a_long_sweep_is_reported(long: Any, stage: Any) -> None:
    said: list[str] = []
    view = live.Lines(long, said.append)
    view.update()
    assert len([line for line in said if " completed " in line]) == 5
    stage.complete(long.id, 5)
    stage.end(long.id, SweepState.COMPLETED)
    view.update()
    assert len([line for line in said if " completed " in line]) == 6
